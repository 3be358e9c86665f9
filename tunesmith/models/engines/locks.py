"""The locks of vLLM's environments: one for CUDA and one for a CPU, apart from the lock of everything else."""

import hashlib
import re
from pathlib import Path
from typing import Literal, TypeAlias

import tunesmith

Build: TypeAlias = Literal["cuda", "cpu"]
"""The hardware that vLLM is built for."""
LOCKS: dict[Build, str] = {"cuda": "requirements-vllm.lock", "cpu": "requirements-vllm-cpu.lock"}
PACKAGE = Path(tunesmith.__path__[0])


def path(build: Build) -> Path:
    """The lock of a build."""
    return _root() / LOCKS[build]


def completion() -> Path:
    """The script that completes an installation, which the environment's own Python runs."""
    return _root() / "deploy" / "complete_engine.py"


def _root() -> Path:
    """The folder of the files that images are built from too: a wheel holds them, as this repository does."""
    bundled = PACKAGE / "pipeline" / "image"
    return bundled if bundled.is_dir() else PACKAGE.parent


def digest(build: Build) -> str:
    """SHA-256 of a lock, in hex."""
    return hashlib.sha256(path(build).read_bytes()).hexdigest()


def normalized(name: str) -> str:
    """The name of a library as a lock writes it: in lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version(build: Build) -> str:
    """The version of vLLM in a lock."""
    pin = re.search(r"(?m)^vllm(?:-cpu)?==(\S+)", path(build).read_text())
    assert pin is not None
    return pin[1]


def count(lock: Path) -> int:
    """The number of pins in a lock, including those for other systems."""
    return len(re.findall(r"(?m)^[\w.-]+==", lock.read_text()))
