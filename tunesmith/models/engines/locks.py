"""The locks of vLLM's environments: one for CUDA and one for a CPU, apart from the lock of everything else."""

import hashlib
import re
from pathlib import Path
from typing import Literal, TypeAlias

import tunesmith

Build: TypeAlias = Literal["cuda", "cpu"]
"""The hardware that vLLM is built for."""
LOCKS: dict[Build, str] = {"cuda": "requirements-vllm.lock", "cpu": "requirements-vllm-cpu.lock"}
TORCH: dict[Build, str] = {"cuda": "torch==2.13.0", "cpu": "torch==2.13.0"}
"""The torch that each lock was made for, which stands outside of it (docs/decisions/004)."""
PACKAGE = Path(tunesmith.__path__[0])


def path(build: Build) -> Path:
    """The lock of a build: a wheel holds it, as this repository does."""
    bundled = PACKAGE / "pipeline" / "image"
    return (bundled if bundled.is_dir() else PACKAGE.parent) / LOCKS[build]


def digest(build: Build) -> str:
    """SHA-256 of a lock, in hex."""
    return hashlib.sha256(path(build).read_bytes()).hexdigest()


def normalized(name: str) -> str:
    """The name of a library as a lock writes it: in lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()
