"""Models that were brought to this machine, each in a folder named by its digest, for all projects of a user.

Who needs a version holds it, by a lock on a file beside it that ends with the process, however that ends; what nobody
holds may be removed.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import IntegrityError
from tunesmith.registry.servable import ADAPTER
from tunesmith.registry.versions import EVIDENCE_FOLDER, MODEL_FOLDER

STATEMENT_ID = re.compile(r"[0-9a-f]{64}")
"""The name of a folder of evidence, which some trackers give inside of ``evidence/``, and others without."""
_held: dict[Path, int] = {}
"""Descriptors of the locks that this process has, as locks are a process's; by the place of the version."""


def folder() -> Path:
    """Outside the project; safe to delete while nothing is served."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tunesmith"


def base(digest: str) -> Path:
    return folder() / "bases" / digest


def version(digest: str) -> Path:
    """Where a version lies, the model in ``model/``, if it was brought here."""
    return folder() / "versions" / digest


def hold(digest: str) -> Path:
    """The place of a version, there or not, which no other process removes until this one ends or prunes it."""
    place = version(digest)
    if place not in _held:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(_lock(place), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_SH)  # waits while it is being removed
        _held[place] = lock
    return place


def prune(keep: Collection[str]) -> list[str]:
    """Remove every version but those in ``keep``, the weights under them, and what other processes hold.

    Returns the digests of what was removed: only what is a version as it was fetched, with nothing else in its folder.
    """
    needed = {*keep, *(on for digest in keep if (on := _under(digest)))}
    others = [place for place in sorted(folder().glob("versions/*")) if place.name not in needed]
    return [place.name for place in others if _is_ours(place) and _remove(place)]


def _under(digest: str) -> str | None:
    """The digest of the weights that a version is an adapter on."""
    model = version(digest) / MODEL_FOLDER
    return str(lineage.read(model)["on"]["digest"]) if (model / ADAPTER).exists() else None


def _is_ours(place: Path) -> bool:
    """Whether it is a version as `local_models` writes it, and nothing of anybody else's lies in it."""
    model = place / MODEL_FOLDER
    try:
        stated = manifest.read(model)
    except IntegrityError:
        return False
    files = {file.relative_to(model).as_posix() for file in model.rglob("*") if not file.is_dir()}
    parts = {part.name for part in place.iterdir() if not STATEMENT_ID.fullmatch(part.name)}
    whole = files <= {*stated.files, manifest.NAME} and parts <= {MODEL_FOLDER, EVIDENCE_FOLDER}
    return whole and stated.digest == place.name and not place.is_symlink()


def _remove(place: Path) -> bool:
    """Whether it is gone: not if another process holds it."""
    if (own := _held.pop(place, None)) is not None:
        os.close(own)
    with _lock(place).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        partial = place.with_name(f".{place.name}.partial")  # what `atomic.new_folder` clears away after a kill here
        shutil.rmtree(partial, ignore_errors=True)
        place.rename(partial)
        shutil.rmtree(partial)
        return True


def _lock(place: Path) -> Path:
    return place.with_name(f".{place.name}.held")
