"""Cache of fetched models, shared by all projects of a user: each model in a folder named by its digest.

A process that needs a version holds it by a lock on a file beside it, which the operating system releases when the
process ends. A version without a holder may be removed.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import IntegrityError
from tunesmith.registry.logged_models import MODEL_FOLDER
from tunesmith.registry.servable import ADAPTER
from tunesmith.registry.versions import EVIDENCE_FOLDER

STATEMENT_ID = re.compile(r"[0-9a-f]{64}")
"""The name of a folder of evidence, which some trackers download into ``evidence/``, and others beside the model."""
_locks: dict[Path, int] = {}
"""Descriptors of the locks of this process, by the folder of the version; locks belong to a process."""


def folder() -> Path:
    """Return the cache's folder, outside the project; safe to delete while nothing is served."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tunesmith"


def base_folder(digest: str) -> Path:
    """Return the folder of a base, cached or not."""
    return folder() / "bases" / digest


def version_folder(digest: str) -> Path:
    """Return the folder of a version, cached or not; the model is in ``model/`` there."""
    return folder() / "versions" / digest


def private_root() -> Path:
    """Return the folder of all private folders."""
    return folder() / "private"


def hold(digest: str) -> Path:
    """Lock a version, cached or not, against removal by other processes, until this one ends or prunes it.

    Returns its folder.
    """
    place = version_folder(digest)
    if place not in _locks:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(_lock_file(place), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_SH)  # waits while another process removes the version
        _locks[place] = lock
    return place


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new folder beside the cached models, for links to them; it is removed afterwards.

    A folder that a killed process left is removed here.
    """
    place = private_root()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in place.iterdir():
        with suppress(FileNotFoundError, BlockingIOError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=place) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs. Raises BlockingIOError where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make a file of the same bytes that stays when ``source`` is replaced: by a hard link where possible."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:  # another file system, or a file of another user
        shutil.copyfile(source, target)


def prune(keep: Collection[str]) -> list[str]:
    """Remove every version except those in ``keep``, the weights under them, and those that other processes hold.

    Only folders that hold a version as it was fetched, and nothing else, are removed. Returns their digests.
    """
    needed = {*keep, *(digest for adapter in keep if (digest := _full_weights_digest(adapter)))}
    others = [place for place in sorted(folder().glob("versions/*")) if place.name not in needed]
    return [place.name for place in others if _is_as_fetched(place) and _remove(place)]


def _full_weights_digest(digest: str) -> str | None:
    """Return the digest of the full weights under a version; None where it is not a cached adapter."""
    model = version_folder(digest) / MODEL_FOLDER
    return lineage.read(model)["on"]["digest"] if (model / ADAPTER).exists() else None


def _is_as_fetched(place: Path) -> bool:
    """Return whether a folder holds a version as `model_files` writes it, and nothing else."""
    model = place / MODEL_FOLDER
    try:
        recorded = manifest.read(model)
    except IntegrityError:
        return False
    files = {file.relative_to(model).as_posix() for file in model.rglob("*") if not file.is_dir()}
    parts = {part.name for part in place.iterdir() if not STATEMENT_ID.fullmatch(part.name)}
    nothing_else = files <= {*recorded.files, manifest.NAME} and parts <= {MODEL_FOLDER, EVIDENCE_FOLDER}
    return nothing_else and recorded.digest == place.name and not place.is_symlink()


def _remove(place: Path) -> bool:
    """Remove a version unless another process holds it. Returns whether it was removed."""
    if (own_lock := _locks.pop(place, None)) is not None:
        os.close(own_lock)
    with _lock_file(place).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        partial = place.with_name(f".{place.name}.partial")  # `files.new_folder` clears it away after a kill here
        shutil.rmtree(partial, ignore_errors=True)
        place.rename(partial)
        shutil.rmtree(partial)
        return True


def _lock_file(place: Path) -> Path:
    return place.with_name(f".{place.name}.held")
