"""Files and folders that appear whole, or not at all.

Everything is written beside its destination, synced, and renamed into place. A folder that exists cannot be replaced
by one rename on every file system, so for an instant between two renames the destination is absent: a kill there
leaves the previous content under ``.<name>.previous``, which the next ``new_folder`` puts back. Of two writers of one
folder, the second is refused (a killed `dvc` leaves its stage running, and forgets it).
"""

import fcntl
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tunesmith.core import layout
from tunesmith.core.errors import BusyError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` if the block ends well, and vanishes if it does not.

    Raises BusyError while another process writes the same folder.
    """
    partial, previous = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.previous")
    with only_writer(path):
        _put_back(path)
        shutil.rmtree(previous, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield from _fill(partial, previous, path)


def recover(path: Path) -> None:
    """Put back the previous folder where a replacement was killed between its two renames.

    Raises BusyError while another process writes the same folder.
    """
    if path.with_name(f".{path.name}.previous").exists():
        with only_writer(path):
            _put_back(path)


def _put_back(path: Path) -> None:
    previous = path.with_name(f".{path.name}.previous")
    if previous.exists() and not path.exists():
        previous.rename(path)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock on writing ``path`` while the block runs. Raises BusyError while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)  # no link of a container
    with os.fdopen(descriptor, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(path, _holder(lock)) from None
        lock.truncate(0)
        lock.write(_this_process())
        lock.flush()
        yield


def _holder(lock: TextIO) -> str:
    """The process that holds a lock, by `_this_process`; empty where it did not write its ID within a second."""
    for _ in range(20):
        lock.seek(0)
        if holder := lock.read(100).strip():
            return holder
        time.sleep(0.05)
    return ""


def _this_process() -> str:
    """The ID of this process, and in a container, which counts its processes apart, the container's name."""
    inside = os.environ.get(layout.IMAGE_DIGEST_VARIABLE)
    return f"{os.getpid()} of container {socket.gethostname()}" if inside else str(os.getpid())


def _busy(path: Path, writer: str) -> BusyError:
    """The error where another process, the ``writer`` by `_this_process`, holds the lock."""
    if not writer:  # it has not written yet
        return BusyError(f"{path}: another process is writing it", fix="wait for that run to end, or end it")
    if container := writer.partition(" of container ")[2]:
        fix = f"wait for that run to end, or end it: `docker rm --force {container}`"
    else:
        fix = f"wait for that run to end, or end it: `kill {writer}`"
    return BusyError(f"{path}: process {writer} is writing it", fix=fix)


def _fill(partial: Path, previous: Path, path: Path) -> Iterator[Path]:
    try:
        yield partial
        settle(partial)
        if path.exists():
            path.rename(previous)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def settle(folder: Path) -> None:
    """Sync a folder and the files and folders in it, and nothing else: no pipe, nothing behind a link.

    Whoever may read the folder may then read all of it: safetensors makes files that only their owner can read, and a
    server may run as another user.
    """
    readers = folder.stat().st_mode & 0o444
    for place, folders, files in os.walk(folder, onerror=_raise):  # top down: made readable, then read
        for path in (Path(place, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                path.chmod(stat.S_IMODE(mode) | readers)
                sync(path)
    sync(folder)


def _raise(error: OSError) -> None:
    raise error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    with _new_file(path) as partial:
        partial.write_bytes(content)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which then takes the place of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def copy_in(sources: dict[str, Path], path: Path) -> None:
    """Copy files to ``path``, whole: one file named "" as a file, others by their relative path as a folder."""
    if set(sources) == {""}:
        with _new_file(path) as partial:
            shutil.copyfile(sources[""], partial)
        return
    with new_folder(path) as partial:
        for name, source in sources.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, partial / name)


def write_texts(folder: Path, texts: dict[str, str]) -> None:
    """Write a folder of text files, by name, in place of what was there."""
    with new_folder(folder) as partial:
        for name, text in texts.items():
            (partial / name).write_text(text)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
