"""A node's cache of inputs by digest: each content is taken from the store once, checked, linked into workspaces."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith.core import files
from tunesmith.core.dvc_store import JOBS, Digest, Store, Tree
from tunesmith.core.errors import ClusterError

VARIABLE = "TUNESMITH_NODE_CACHE"
"""The variable of a node that names the folder of its cache."""


def folder() -> Path:
    """The folder of this node's cache and of its workspaces."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get(VARIABLE, f"{home}/tunesmith/cluster")).expanduser().absolute()


def own(place: Path) -> Path:
    """Make the folder where it is missing, for its user alone. Raises ClusterError where anybody may write to it."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.stat().st_mode & 0o002:
        raise ClusterError(
            f"{place}: every user of the node may write there, and code and inputs of stages would be taken from it",
            fix=f"`chmod o-w {place}` on the node, or name another folder in its variable {VARIABLE}",
        )
    return place


class NodeCache:
    """Files by digest in a folder of this node."""

    def __init__(self, place: Path) -> None:
        self.place = place / "files"
        self.place.mkdir(parents=True, exist_ok=True)

    def fetch(self, store: Store, tree: Tree) -> int:
        """Take what is missing from the store; return the bytes that were taken.

        Raises ClusterError for a file that is missing or damaged in the store.
        """
        with only_one(self.place / ".lock"):
            missing = sorted({digest for digest in tree.values() if not self._has(digest)})
            with ThreadPoolExecutor(JOBS) as pool:
                list(pool.map(lambda digest: self._take(store, digest), missing))
        return sum(digest.size for digest in missing)

    def lay_out(self, tree: Tree, workspace: Path) -> None:
        """Put files into a workspace: links where its disk is the cache's, read-only so that no stage alters them."""
        for name, digest in tree.items():
            to = workspace / name
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                to.hardlink_to(self._path(digest))
            except OSError:  # another disk, or one without links
                shutil.copyfile(self._path(digest), to)

    def copy_out(self, tree: Tree, workspace: Path) -> None:
        """Put files into a workspace as copies, for a stage that changes them."""
        for name, digest in tree.items():
            to = workspace / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._path(digest), to)

    def _path(self, digest: Digest) -> Path:
        return self.place / digest.md5[:2] / digest.md5[2:]

    def _has(self, digest: Digest) -> bool:
        with suppress(FileNotFoundError):
            status = self._path(digest).stat()
            return status.st_size == digest.size and not status.st_mode & 0o222  # writable: somebody changed it
        return False

    def _take(self, store: Store, digest: Digest) -> None:
        path = self._path(digest)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            store.get(digest, partial)
            partial.chmod(0o444)
            files.sync(partial)  # what is there after a power failure is believed
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def workspace(place: Path, name: str) -> Iterator[Path]:
    """A folder for one attempt, shared by the ranks of this node, and removed when the last of them leaves it.

    Folders that killed processes left behind are removed first.
    """
    parent = place / "work"
    parent.mkdir(parents=True, exist_ok=True)
    mine, gate = parent / name, parent / ".lock"
    with only_one(gate):
        for path in parent.glob("*.lock"):
            _remove_unless_used(path)
        lock = mine.with_suffix(".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_SH)
        mine.mkdir(exist_ok=True)
    try:
        yield mine
    finally:
        with only_one(gate):
            lock.close()
            _remove_unless_used(mine.with_suffix(".lock"))


def _remove_unless_used(path: Path) -> None:
    """Remove a workspace, by its lock, unless a process uses it."""
    with suppress(OSError), path.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock in the file ``path``, among processes of this machine; wait for it first."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
