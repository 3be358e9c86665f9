"""Checks of this machine: libraries, disk, GPU, threads, sandbox, container engine."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tunesmith.cli.doctor.finding import Finding, answer
from tunesmith.core import cpus, formatting, lineage, manifest
from tunesmith.core.errors import IntegrityError, SandboxError
from tunesmith.project import document
from tunesmith.runtime import settings
from tunesmith.verifiers.sandbox import tiers

BASE = Path("models/base")
SHOWN = 5
"""Libraries that a line names."""
UNKNOWN_BASE = 1_000_000_000
"""Bytes of a base that is not here yet; the demo's has half of it."""
SCRATCH = 2_000_000_000
"""Bytes for what is unpacked, written aside or cached beside models."""
SECONDS = 30.0
"""Longest that a driver, or torch asking it, may take to answer."""
TORCH = "import torch; print(torch.__version__, torch.version.cuda or '-', int(torch.cuda.is_available()))"


def python(lock: Path = lineage.LOCK, installed: Callable[[str], str] = metadata.version) -> Finding:
    """Whether what is installed is what the lock names; torch is not in it (docs/decisions/004)."""
    if not lock.exists():
        return Finding("libraries", "warning", f"no {lock} here", "run from the project's root")
    missing, other = [], []
    for requirement in _pinned(lock):
        wanted = str(requirement.specifier).removeprefix("==")
        try:
            found = installed(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{requirement.name} {wanted}")
            continue
        if found != wanted:
            other.append(f"{requirement.name} {found}, not {wanted}")
    fix = "`rm -f .venv/runtime && make .venv/runtime`, or activate the environment that it made"
    if missing:
        return Finding("libraries", "bad", f"{_some(missing)} not installed", fix)
    if other:
        return Finding("libraries", "warning", f"not those of the lock: {_some(other)}", fix)
    return Finding("libraries", "good", f"those of {lock}, on Python {sys.version.split()[0]}")


def _pinned(lock: Path) -> Iterator[Requirement]:
    for line in lock.read_text().splitlines():
        try:
            requirement = Requirement(line.split(" \\")[0])
        except InvalidRequirement:  # a hash, or a blank line
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def disk(places: list[Path], free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free) -> Finding:
    """Whether each disk holds a full run.

    The rule, a rough one: a model of all weights, the base among them, is there twice, in models/ and in DVC's cache,
    and once more while it is written. Adapters are small.
    """
    try:
        base = manifest.read(BASE).weights_bytes
    except IntegrityError:
        base = UNKNOWN_BASE
    need = 3 * base * _whole_models() + SCRATCH
    least, where = min((free(place), place) for place in places)
    says = f"{formatting.size(least)} free at {where}; a full run takes about {formatting.size(need)}"
    if least < need:
        return Finding(
            "disk", "bad" if least < base else "warning", says, "free some; `dvc gc --workspace` drops old results"
        )
    return Finding("disk", "good", says)


def _whole_models() -> int:
    """The number of models with full weights: the base, every training of all weights, and every merged adapter."""
    project = document.load()
    trained = [entry for _, entry in project.trainings.values() if entry.weights == "full"]
    return 1 + len(trained) + len(project.package.merged)


def can_compile() -> bool:
    """Whether Triton finds what it compiles its first module with."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return compiler is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def gpu(
    driver: Callable[[], str | None] = lambda: answer(
        "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", seconds=SECONDS
    ),
    torch: Callable[[], str | None] = lambda: answer(sys.executable, "-c", TORCH, seconds=SECONDS),
    device: Path = Path("/dev/nvidia0"),
    compiles: Callable[[], bool] = lambda: settings.read().engine == "docker" or can_compile(),
) -> Finding:
    """Whether torch can use the GPU that is there. Asked in a process of its own: a sick driver can hang."""
    name, told = driver(), torch()
    if told is None:
        return Finding("GPU", "bad", "torch does not answer", "install it again: `make .venv/runtime`; try nvidia-smi")
    version, cuda, works = told.split()
    if works == "1":
        says = f"{name or 'one that torch sees'}; torch {version}"
        if compiles():
            return Finding("GPU", "good", says)
        return Finding(
            "GPU",
            "warning",
            f"{says}; no C compiler or no Python.h, so Triton, by which TRL trains on a GPU, cannot start",
            "install them (Debian: gcc, python3-dev), or set runtime.engine to docker, whose image needs neither",
        )
    if name is None and not device.exists():
        return Finding("GPU", "good", f"none; torch {version} trains on the CPU")
    found = name or "an NVIDIA device whose driver does not answer"
    if cuda == "-":
        fix = "install the CUDA build of that version (see pyproject.toml) from the package index"
        return Finding("GPU", "bad", f"{found}, but torch {version} is built without CUDA", fix)
    return Finding(
        "GPU", "bad", f"{found}, but torch {version} (CUDA {cuda}) cannot use it", "update the driver; see `nvidia-smi`"
    )


def thread_pools(usable: Callable[[], int] = cpus.usable_cpus) -> Finding:
    stated, available = os.environ.get("OMP_NUM_THREADS", ""), usable()
    if stated.isdecimal() and int(stated) > available:
        fix = f"set OMP_NUM_THREADS to {available}, or unset it: stages size their pools themselves"
        return Finding(
            "threads", "warning", f"OMP_NUM_THREADS is {stated} on {available} usable CPUs: they would spin", fix
        )
    return Finding("threads", "good", f"{stated or cpus} on {available} usable CPUs")


def code_sandbox(tier: Callable[[], str] = tiers.tier) -> Finding:
    try:
        return Finding("sandbox", "good", f"{tier()} passed its self-test; generated code can be graded")
    except SandboxError as error:
        return Finding("sandbox", "warning", f"generated code cannot be graded: {error.reason}", error.fix)


def engine() -> Finding:
    """Whether stages can run where `runtime` says."""
    runtime = settings.read()
    if runtime.engine == "host":
        return Finding("engine", "good", "stages run on this machine itself")
    from tunesmith.runtime import docker

    name = docker.check_image(docker.connect(), str(runtime.image))
    return Finding("engine", "good", f"the Docker engine answers and has {name}")
