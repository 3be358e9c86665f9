"""Checks of this machine: libraries, disk, GPU, threads, sandbox, container engine."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tunesmith.cli.doctor.finding import Finding, answer
from tunesmith.core import cpus, extras, formatting, layout, manifest
from tunesmith.core.errors import IntegrityError, SandboxError
from tunesmith.project import document
from tunesmith.runtime import settings
from tunesmith.verifiers.sandbox import tiers

BASE = Path("models/base")
MAX_NAMES = 5
"""Number of libraries that a finding names."""
UNKNOWN_BASE = 1_000_000_000
"""Assumed bytes of a base model that is not fetched yet; the demo's has half of it."""
SCRATCH = 2_000_000_000
"""Bytes for temporary files and caches beside the models."""
GPU_SECONDS = 30.0
"""Timeout for an answer of the GPU's driver, directly or through torch."""
TORCH = "import torch; print(torch.__version__, torch.version.cuda or '-', int(torch.cuda.is_available()))"


def python(
    lock: Path = layout.LOCK,
    installed: Callable[[str], str] = metadata.version,
    required: Callable[[], list[str] | None] = lambda: metadata.requires("tunesmith"),
) -> Finding:
    """Check that the installed libraries are those of the lock, which does not have torch (docs/decisions/004); in a
    project without one, that they are what the installed package requires.
    """
    if lock.exists():
        source, lines = "the lock", [line.split(" \\")[0] for line in lock.read_text().splitlines()]
        fix = f"`pip install --no-deps --requirement {lock}`, or activate the environment that has them"
    else:
        source, lines = "the installed tunesmith", required() or []
        fix = "`pip install --upgrade tunesmith`, with the extras that this project uses"
    missing, other = [], []
    for requirement, needed in _requirements(lines):
        wanted = str(requirement.specifier).removeprefix("==")
        try:
            version = installed(requirement.name)
        except metadata.PackageNotFoundError:
            missing += [f"{requirement.name} {wanted}"] if needed else []
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            other.append(f"{requirement.name} {version}, not {wanted}")
    if missing:
        return Finding("libraries", "bad", f"{_some(missing)} not installed", fix)
    if other:
        return Finding("libraries", "warning", f"not those of {source}: {_some(other)}", fix)
    return Finding("libraries", "good", f"those of {source}, on Python {sys.version.split()[0]}")


def _requirements(lines: Iterable[str]) -> Iterator[tuple[Requirement, bool]]:
    """The requirements that apply to this machine, and whether they are needed: those of extras are not."""
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # a hash, or a blank line
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            yield requirement, True
        elif "extra" in str(marker):
            yield requirement, False


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + rest


def disk(places: list[Path], free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free) -> Finding:
    """Check that each disk can hold a full run.

    A rough rule: every model with full weights, the base included, exists twice, in models/ and in DVC's cache, and a
    third time while it is written. Adapters are small.
    """
    try:
        base = manifest.read(BASE).weights_bytes
    except IntegrityError:
        base = UNKNOWN_BASE
    need = 3 * base * _whole_models() + SCRATCH
    least, place = min((free(place), place) for place in places)
    says = f"{formatting.size(least)} free at {place}; a full run takes about {formatting.size(need)}"
    if least < need:
        return Finding(
            "disk",
            "bad" if least < base else "warning",
            says,
            "free some space; `dvc gc --workspace` drops old results",
        )
    return Finding("disk", "good", says)


def _whole_models() -> int:
    """The number of models with full weights: the base, every training of full weights, and every merged adapter."""
    project = document.load()
    trained = [entry for _, entry in project.trainings.values() if entry.weights == "full"]
    return 1 + len(trained) + len(project.package.merged)


def can_compile() -> bool:
    """Whether Triton finds the compiler and the headers for its first module."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return compiler is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()


def gpu(
    driver: Callable[[], str | None] = lambda: answer(
        "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", seconds=GPU_SECONDS
    ),
    torch: Callable[[], str | None] = lambda: answer(sys.executable, "-c", TORCH, seconds=GPU_SECONDS),
    device: Path = Path("/dev/nvidia0"),
    compiles: Callable[[], bool] = lambda: settings.read().engine == "docker" or can_compile(),
) -> Finding:
    """Check that torch can use this machine's GPU, in a process of its own, since a faulty driver can hang."""
    name, report = driver(), torch()
    if report is None:
        return Finding(
            "GPU",
            "bad",
            "torch does not answer",
            "`python -c 'import torch'` shows why: install torch again, and try nvidia-smi",
        )
    version, cuda, works = report.split()
    if works == "1":
        says = f"{name or 'unknown to nvidia-smi'}; torch {version}"
        if compiles():
            return Finding("GPU", "good", says)
        return Finding(
            "GPU",
            "warning",
            f"{says}; no C compiler or no Python.h, so Triton, which TRL needs on a GPU, cannot start",
            "install them (Debian: gcc, python3-dev), or set runtime.engine to docker, whose image needs neither",
        )
    if name is None and not device.exists():
        return Finding("GPU", "good", f"none; torch {version} trains on the CPU")
    device_name = name or "an NVIDIA device whose driver does not answer"
    if cuda == "-":
        fix = "install the CUDA build of that version, from PyTorch's package index"
        return Finding("GPU", "bad", f"{device_name}, but torch {version} is built without CUDA", fix)
    return Finding(
        "GPU",
        "bad",
        f"{device_name}, but torch {version} (CUDA {cuda}) cannot use it",
        "update the driver; see `nvidia-smi`",
    )


def thread_pools(usable: Callable[[], int] = cpus.usable_cpus) -> Finding:
    """Check that OMP_NUM_THREADS does not exceed the usable CPUs."""
    stated, available = os.environ.get("OMP_NUM_THREADS", ""), usable()
    if stated.isdecimal() and int(stated) > available:
        fix = f"set OMP_NUM_THREADS to {available}, or unset it: stages size their pools themselves"
        return Finding(
            "threads", "warning", f"OMP_NUM_THREADS is {stated} on {available} usable CPUs, which slows every step", fix
        )
    return Finding("threads", "good", f"{stated or available} on {available} usable CPUs")


def code_sandbox(tier: Callable[[], str] = tiers.tier) -> Finding:
    """Check that a sandbox for generated code passes its self-test."""
    try:
        return Finding("sandbox", "good", f"{tier()} passed its self-test; generated code can be graded")
    except SandboxError as error:
        return Finding("sandbox", "warning", f"generated code cannot be graded: {error.reason}", error.fix)


def containers() -> Finding:
    """Check that stages can run where `runtime` says."""
    runtime = settings.read()
    if runtime.engine == "host":
        return Finding("containers", "good", "stages run on this machine itself")
    if runtime.engine == "ray":
        extras.check("ray")
        from tunesmith.runtime.cluster import connection

        return Finding("cluster", "good", connection.describe(runtime, Path.cwd()))
    from tunesmith.runtime import docker

    name = docker.check_image(docker.connect(), str(runtime.image))
    return Finding("containers", "good", f"the Docker engine answers and has {name}")
