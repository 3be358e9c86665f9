"""Where a model comes from: all that is needed to tell it apart and to make it again."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core import git, manifest
from tunesmith.core.manifest import Manifest

NAME = "lineage.json"
LOCK = Path("requirements.lock")
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")

Lineage = dict[str, Any]


def collect(
    *, base: Manifest, source: str, inputs: list[Path], params: dict[str, Any], seed: int, device: str
) -> Lineage:
    """The lineage of a model trained now, from the base at ``source`` and ``inputs`` (files of ready rows).

    Describes the run, decides nothing: git and dvc.lock are read for the record alone.
    """
    return {
        **making(device),
        "base": {"source": source, "digest": base.digest, "weights_digest": base.weights_digest},
        "inputs": {
            str(path): {"sha256": manifest.file_digest(path), "rows": _count_lines(path), **dvc_hash(path)}
            for path in inputs
        },
        "params": params,
        "seed": seed,
    }


def making(device: str) -> Lineage:
    """When, by what code, in which environment, on what hardware and by which command this is made, now."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code(),
        "environment": {
            "lock_sha256": manifest.file_digest(LOCK) if LOCK.exists() else None,
            "image_digest": os.environ.get("TUNESMITH_IMAGE_DIGEST"),
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in LIBRARIES},
        },
        "hardware": {"device": device, "machine": platform.machine(), "system": platform.system()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def read(folder: Path) -> Lineage:
    """The lineage saved with a model."""
    lineage: Lineage = json.loads((folder / NAME).read_text())
    return lineage


def code() -> dict[str, Any]:
    """{commit, clean}; both null where this is no git checkout. dvc.lock may differ: the pipeline itself writes it.

    A container has no git, and is told.
    """
    if told := os.environ.get("TUNESMITH_CODE"):
        found: dict[str, Any] = json.loads(told)
        return found
    here = Path()
    commit = git.head(here)
    return {"commit": commit, "clean": git.clean(here) if commit else None}


def dvc_hash(path: Path, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """The hash DVC recorded for ``path``, or for the output it lies in: {"dvc": "md5:..."}; {} where it has none."""
    stages = yaml.safe_load(lock.read_text()).get("stages", {}) if lock.exists() else {}
    entries = {
        Path(entry["path"]): f"{entry['hash']}:{entry[entry['hash']]}"
        for stage in stages.values()
        for entry in stage.get("outs", [])  # deps may be of an earlier run
    }
    hashes = [entries[place] for place in (path, *path.parents) if place in entries]
    return {"dvc": hashes[0]} if hashes else {}


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
