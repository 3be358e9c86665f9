"""The machine and the libraries of a run."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "triton", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")
ROOT = Path(__file__).parents[2]


def describe() -> dict[str, Any]:
    """Card, driver, versions, date and commit. ``locked`` has those versions of the lock that differ."""
    import torch

    from tunesmith.models import device

    found = {name: _version(name) for name in LIBRARIES}
    card: dict[str, Any] = {"card": device.detect().name}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        card |= {
            "memory_bytes": properties.total_memory,
            "capability": f"{properties.major}.{properties.minor}",
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "cuda": torch.version.cuda,
        }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"),
        "python": platform.python_version(),
        **card,
        "libraries": found,
        "locked": {
            name: pin for name, pin in _locked().items() if found[name] and found[name].partition("+")[0] != pin
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """What a command prints; None where it does not exist or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _locked() -> dict[str, str]:
    """The pinned version of each of LIBRARIES that requirements.lock has; torch's is in pyproject.toml."""
    pins: dict[str, str] = {}
    for path in (ROOT / "requirements.lock", ROOT / "pyproject.toml"):
        for line in path.read_text().splitlines():
            name, found, rest = line.strip(' ",').partition("==")
            if found and name in LIBRARIES:
                pins[name] = rest.split()[0].strip('",')
    return pins
