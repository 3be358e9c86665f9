"""Outputs of earlier runs, restored where a stage is about to run on the very inputs that made them.

DVC's own run cache leaves out stages whose outputs persist, and outputs persist so that a failed run loses nothing
(docs/decisions/024). dvc.lock holds the inputs and outputs of each stage's last run; before a stage runs, these are kept
beside DVC's cache, by a digest of the inputs, and outputs are copied back from the cache where their inputs come
again. `dvc repro --force` runs the stage all the same.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from tunesmith.core import files
from tunesmith.core.variables import RERUN

LOCK = Path("dvc.lock")
Outputs = dict[str, str]
"""DVC's MD5 by path."""


def restore(root: Path) -> bool:
    """Whether the outputs of the stage that DVC runs now were restored, because the same inputs made them before."""
    target = os.environ.get("DVC_STAGE")
    if target is None or not (root / LOCK).exists():
        return False
    locked = yaml.safe_load((root / LOCK).read_text()).get("stages", {})
    store = _store(root)
    for name, entry in locked.items():
        _keep(store / name, entry)
    if os.environ.get(RERUN) or not (store / target).is_dir():
        return False
    from tunesmith.core import dvc_project  # half a second, which a first run does not need

    inputs = dvc_project.inputs(root, target)
    record = store / target / f"{_key(*inputs)}.json"
    if not record.exists() or _is_forced(locked.get(target), inputs, root):
        return False
    outputs: Outputs = json.loads(record.read_text())
    cached = {Path(path): dvc_project.cached_files(root, digest) for path, digest in outputs.items()}
    if any(found is None for found in cached.values()):
        return False
    for path, found in cached.items():
        files.copy_in(found or {}, path)
    print(f"restored from the same inputs' earlier run: {', '.join(outputs)}", flush=True)
    return True


def _store(root: Path) -> Path:
    """Beside DVC's cache, which experiments and work trees share; asked of DVC's configuration files alone."""
    from tunesmith.core import dvc_project

    return dvc_project.cache(root) / "tunesmith" / "runs"


def _keep(folder: Path, entry: dict[str, object]) -> None:
    """Write the outputs of a stage's entry in dvc.lock under the key of its inputs, once."""
    outputs = _hashes(entry.get("outs"))
    record = folder / f"{_key(str(entry['cmd']), _hashes(entry.get('deps')))}.json"
    if outputs and not record.exists():
        files.write_text(record, json.dumps(outputs) + "\n")


def _is_forced(entry: dict[str, object] | None, inputs: tuple[str, Outputs], root: Path) -> bool:
    """Whether DVC runs a stage that is up to date, outputs and all, as only --force has it."""
    if entry is None or (str(entry["cmd"]), _hashes(entry.get("deps"))) != inputs:
        return False
    return all((root / path).exists() for path in _hashes(entry.get("outs")))


def _hashes(parts: object) -> Outputs:
    """Path and MD5 of deps or outs as dvc.lock has them."""
    entries: Iterable[dict[str, str]] = parts if isinstance(parts, list) else []
    return {entry["path"]: entry["md5"] for entry in entries if "md5" in entry}


def _key(command: str, deps: Outputs) -> str:
    return hashlib.sha256(json.dumps([command, sorted(deps.items())]).encode()).hexdigest()
