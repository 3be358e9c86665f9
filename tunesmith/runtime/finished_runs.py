"""Restore the outputs of an earlier run instead of running a stage again on the same inputs.

DVC's own run cache leaves out stages whose outputs persist, and ours persist so that a failed run loses nothing
(docs/decisions/024). dvc.lock holds the inputs and outputs of each stage's last run. Before a stage runs, these are
recorded beside DVC's cache by a digest of the inputs; where a record has the inputs of the run to come, its outputs are
copied from the cache. `dvc repro --force` runs the stage all the same.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from tunesmith.core import files
from tunesmith.core.layout import RERUN_VARIABLE

DVC_LOCK = Path("dvc.lock")
Digests = dict[str, str]
"""DVC's MD5 of each dependency or output, by path."""


def restore(root: Path) -> bool:
    """Restore the outputs of the stage that DVC runs now, if a record has its inputs; return whether that was done."""
    target = os.environ.get("DVC_STAGE")
    if target is None or not (root / DVC_LOCK).exists():
        return False
    locked, store = remember(root), _store(root)
    if os.environ.get(RERUN_VARIABLE) or not (store / target).is_dir():
        return False
    from tunesmith.core import dvc_project  # half a second, which a first run does not need

    now = dvc_project.inputs(root, target)
    record = store / target / f"{_key(*now)}.json"
    if not record.exists() or _is_forced(locked.get(target), now, root):
        return False
    outputs: Digests = json.loads(record.read_text())
    cached = {Path(path): dvc_project.cached_files(root, digest) for path, digest in outputs.items()}
    if any(sources is None for sources in cached.values()):
        return False
    for path, sources in cached.items():
        files.copy_in(sources or {}, path)
    print(f"restored from the same inputs' earlier run: {', '.join(outputs)}", flush=True)
    return True


def remember(root: Path) -> dict[str, dict[str, object]]:
    """Record the outputs of every stage in dvc.lock, so that they can be restored, and return the stages."""
    locked: dict[str, dict[str, object]] = yaml.safe_load((root / DVC_LOCK).read_text()).get("stages", {})
    store = _store(root)
    for name, entry in locked.items():
        _record(store / name, entry)
    return locked


def inputs(root: Path) -> str | None:
    """A digest of the inputs of the stage that DVC runs now; None where DVC runs none."""
    if (target := os.environ.get("DVC_STAGE")) is None:
        return None
    from tunesmith.core import dvc_project

    return _key(*dvc_project.inputs(root, target))


def _store(root: Path) -> Path:
    """The folder of the records, beside DVC's cache, which experiments and work trees share."""
    from tunesmith.core import dvc_project

    return dvc_project.cache(root) / "tunesmith" / "runs"


def _record(folder: Path, entry: dict[str, object]) -> None:
    """Write the outputs of a stage's entry in dvc.lock to a file named by the digest of its inputs, once."""
    outputs = _hashes(entry.get("outs"))
    record = folder / f"{_key(str(entry['cmd']), _hashes(entry.get('deps')))}.json"
    if outputs and not record.exists():
        files.write_text(record, json.dumps(outputs) + "\n")


def _is_forced(entry: dict[str, object] | None, inputs: tuple[str, Digests], root: Path) -> bool:
    """Whether DVC runs a stage that is up to date, outputs included, as it does with --force alone."""
    if entry is None or (str(entry["cmd"]), _hashes(entry.get("deps"))) != inputs:
        return False
    return all((root / path).exists() for path in _hashes(entry.get("outs")))


def _hashes(parts: object) -> Digests:
    """The digests of deps or outs as dvc.lock lists them."""
    entries: Iterable[dict[str, str]] = parts if isinstance(parts, list) else []
    return {entry["path"]: entry["md5"] for entry in entries if "md5" in entry}


def _key(command: str, deps: Digests) -> str:
    return hashlib.sha256(json.dumps([command, sorted(deps.items())]).encode()).hexdigest()
