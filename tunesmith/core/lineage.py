"""The lineage of a model: everything needed to identify it and to make it again."""

import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

import yaml

from tunesmith.core import fingerprint, git, layout, manifest, params
from tunesmith.core.journal import Trained
from tunesmith.core.manifest import Manifest
from tunesmith.core.params import Objective, TemplateKwargs, WeightsKind

NAME = "lineage.json"
BUNDLED = "pipeline"
"""The folder that a wheel has beside the code."""
IMAGE = re.compile(rb'"image":"([0-9a-f]{64})"')
"""The digest of an image in a line of ready rows; a text would have other quotation marks."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


class Digests(TypedDict):
    """The digests of a model folder."""

    digest: str
    """SHA-256, in hex, of its manifest."""
    weights_digest: str
    """SHA-256, in hex, over its safetensors files alone."""


class BaseOrigin(Digests):
    """The base that a model descends from."""

    source: str
    """The place that the base was fetched from, with its pin, such as "hub Qwen/Qwen3-8B@9c92…"."""
    chat_template_kwargs: NotRequired[TemplateKwargs]
    """The variables that params.yaml set in the base's chat template; absent where it set none."""


class WeightsUnder(Digests):
    """The full weights that an adapter is on."""

    model: str
    """The name of their folder in models/: the base's, or another model's."""


class DvcHash(TypedDict, total=False):
    """DVC's record of a path; empty where there is none."""

    dvc: str
    """The hash that DVC recorded for the path or for the output it lies in, such as "md5:0a1b…"."""


class Input(DvcHash):
    """A file of ready rows that trained a model."""

    sha256: str
    """SHA-256 of the file, in hex."""
    rows: int
    """The number of its lines."""
    images: NotRequired[int]
    """The number of different images that its rows name, by their SHA-256; absent where they name none."""


class Package(TypedDict):
    """An installed package of ours."""

    version: str | None
    """Its version; null where it is found by a path alone."""
    sha256: str
    """SHA-256, in hex, over the digests of its modules and data files."""


class Code(TypedDict):
    """The code that ran."""

    commit: str | None
    """The commit that was checked out; null outside of a git checkout."""
    clean: bool | None
    """Whether everything but dvc.lock and params.yaml was committed; null outside of a git checkout."""
    package: NotRequired[Package]
    """The installed package that ran; absent where the project holds the code itself."""


class Environment(TypedDict):
    """The software that ran."""

    lock_sha256: str | None
    """SHA-256, in hex, of requirements.lock; null where there is none."""
    image_digest: str | None
    """The digest of the container's image; null on the host."""
    python: str
    """The version of Python."""
    libraries: dict[str, str]
    """The version of each of LIBRARIES."""


class Hardware(TypedDict):
    """The machine."""

    device: str
    """The device, as `models.device` names it; a CPU with its threads and precision."""
    machine: str
    """The processor's architecture, such as x86_64."""
    system: str
    """The operating system, such as Linux."""


class Method(TypedDict):
    """How a model was trained."""

    objective: Objective
    weights: WeightsKind


class Making(TypedDict, total=False):
    """The time, code, environment, hardware and command by which something was made."""

    created: str
    """The time, UTC, in ISO 8601 to the second."""
    code: Code
    fingerprint: str | None
    """SHA-256, in hex, of the stage's fingerprint in build/code; null where a stage ran without DVC."""
    document: dict[str, object]
    """params.yaml as it was; it may differ from the commit's, since an experiment changes it without committing."""
    environment: Environment
    hardware: Hardware
    command: list[str]
    """The name of the program, and its arguments."""


class Processes(TypedDict):
    """The processes that trained a model together."""

    number: int
    sharding: Literal["none", "full"]
    """Whether they divided the weights among them."""


class Merged(Digests, Making):
    """The adapter that a merged model was made of, and how that adapter was made."""

    model: str
    """The adapter's name."""
    on: WeightsUnder


class Lineage(Making, total=False):
    """The lineage of a model: lineage.json in its folder.

    That of a base has `source`, `params` and perhaps `chat_template_kwargs`. That of a trained model has all but
    `source` and `chat_template_kwargs`, with `on` for an adapter, `merged` for a merged one, and `engine` where vLLM
    wrote completions.
    """

    source: str
    """The place that a base was fetched from, with its pin."""
    chat_template_kwargs: TemplateKwargs
    """The variables that params.yaml set in a base's chat template; absent where it set none."""
    base: BaseOrigin
    inputs: dict[str, Input]
    """The files of ready rows that trained the model, by path."""
    params: dict[str, dict[str, object]]
    """The effective params that shaped the model, by section; of a base, its source's fields."""
    seed: int
    """The seed of the training."""
    datasets: dict[str, Trained]
    """What each data set of a mixture gave; absent where the rows are of one."""
    method: Method
    on: WeightsUnder
    parents: dict[str, Digests]
    """The models that this one was made from, by name: its start, and others that the training used."""
    merged: Merged
    processes: Processes
    """The processes that trained together; absent in models of earlier releases, which one process trained."""
    engine: Mapping[str, object]
    """The vLLM that wrote the completions of a training (`models.engines.record`); absent where transformers did."""


def collect(
    *, base: Manifest, source: str, inputs: list[Path], params: dict[str, dict[str, object]], seed: int, device: str
) -> Lineage:
    """The lineage of a model trained now, from the base at ``source`` and ``inputs`` (files of ready rows).

    It describes the run and decides nothing: git and dvc.lock are read only for the record.
    """
    return {
        **making(device),
        "base": {"source": source, "digest": base.digest, "weights_digest": base.weights_digest},
        "inputs": {str(path): _input(path) for path in inputs},
        "params": params,
        "seed": seed,
    }


def making(device: str) -> Lineage:
    """The time, code, environment, hardware and command of this process."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code(),
        "fingerprint": _fingerprint(),
        "document": params.read() if params.PATH.exists() else {},
        "environment": {
            "lock_sha256": manifest.file_digest(layout.LOCK) if layout.LOCK.exists() else None,
            "image_digest": os.environ.get(layout.IMAGE_DIGEST_VARIABLE),
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in LIBRARIES},
        },
        "hardware": {"device": device, "machine": platform.machine(), "system": platform.system()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def read(folder: Path) -> Lineage:
    """The lineage in a model's folder."""
    lineage: Lineage = json.loads((folder / NAME).read_text())
    return lineage


def _fingerprint() -> str | None:
    """The digest of the fingerprint of the stage that runs now."""
    path = fingerprint.FOLDER / Path(sys.argv[0]).stem
    return manifest.file_digest(path) if path.exists() else None


def code() -> Code:
    """The commit, whether everything is committed (`git.clean`), and the package where the project does not hold it.

    A container, which has no git, gets them from the host.
    """
    if text := os.environ.get(layout.CODE_VARIABLE):
        handed: Code = json.loads(text)
        return handed
    here = Path()
    commit = git.head(here)
    recorded: Code = {"commit": commit, "clean": git.clean(here) if commit else None}
    return recorded if holds_package(here) else {**recorded, "package": package()}


def holds_package(project: Path) -> bool:
    """Whether a project's own folder has the code that Python runs there, as in Tunesmith's repository."""
    return (project / fingerprint.PACKAGE.name / "__init__.py").exists()


def package() -> Package:
    """The installed package that runs now."""
    suffixes = (".py", *fingerprint.DATA_FILES)
    names = {
        path.relative_to(fingerprint.PACKAGE) for path in fingerprint.PACKAGE.rglob("*") if path.suffix in suffixes
    }
    code = sorted(name for name in names if name.parts[0] != BUNDLED)
    lines = [f"{manifest.file_digest(fingerprint.PACKAGE / name)}  {name.as_posix()}\n" for name in code]
    return {"version": fingerprint.installed("tunesmith"), "sha256": sha256("".join(lines).encode()).hexdigest()}


def dvc_hash(path: Path, lock: Path = Path("dvc.lock")) -> DvcHash:
    """The hash that DVC recorded for ``path``, or for the output that holds it; {} where there is none."""
    stages = yaml.safe_load(lock.read_text()).get("stages", {}) if lock.exists() else {}
    entries = {
        Path(entry["path"]): f"{entry['hash']}:{entry[entry['hash']]}"
        for stage in stages.values()
        for entry in stage.get("outs", [])  # deps may come from an earlier run
    }
    hashes = [entries[place] for place in (path, *path.parents) if place in entries]
    return {"dvc": hashes[0]} if hashes else {}


def _input(path: Path) -> Input:
    rows, images = 0, set[bytes]()
    with path.open("rb") as file:
        for line in file:
            rows += 1
            images.update(IMAGE.findall(line))
    shown = {"images": len(images)} if images else {}
    return cast("Input", {"sha256": manifest.file_digest(path), "rows": rows, **shown, **dvc_hash(path)})
