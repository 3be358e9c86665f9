"""The folder that a stage in a container may write: its outputs go from there to the project, and nothing else does.

Outputs appear by a rename within the folder they lie in, so that folder must be writable, and with it its other
entries. The container therefore gets a folder of its own in that place, in which the other entries are mounted
read-only; afterwards the outputs, and nothing else, move to where they belong. The files that the stage wrote in an
earlier run are there; folders are not, since a stage replaces them whole. Checkpoints of a training alone are written
in place (`container_checkpoints`): they must outlive a container that is killed.
"""

import errno
import os
import shutil
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core import files
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.core.layout import REPORTS
from tunesmith.runtime import container_checkpoints, container_journals

STAGING = Path(".dvc/tmp/engines")
"""Folder of the project, ignored by git and DVC, in which every stage has its staging folder."""
SECRETS = (".env*", ".dvc/config.local", ".git/config", "*.pem", "*.key", "keys/*.pem", "keys/*.key", "deploy/.env*")
"""Files of the project that may hold passwords or private keys. No stage needs one, so containers see them empty."""
DEPTH = 32
"""Limit on nested folders in an output, since copying and removing it are recursive."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine (source) and its place in the container (target), both as absolute paths."""

    source: Path
    target: Path
    writable: bool


class Staging:
    """The writable side of one run of a stage of the project at ``root``, an absolute path.

    run: a UUID for this run.
    """

    def __init__(self, root: Path, stage: Stage, *, contained: bool = True) -> None:
        """contained: whether a container of this machine writes to it, and its training's checkpoints beside it."""
        self.root, self.outputs, self.run = root, stage.outs, str(uuid.uuid4())
        self.folder = root / STAGING / stage.target
        _remove(self.folder)
        self.parents = sorted({output.parent for output in stage.outs})
        self.mounts = [Mount(root, root, writable=False)]
        self.checkpoints = container_checkpoints.of(stage, root) if contained else None
        if self.checkpoints:
            _check_writable(self.checkpoints)
            container_checkpoints.clean(self.checkpoints)
        for output in stage.outs:
            files.recover(root / output)
        for parent in self.parents:
            _check_writable(root / parent)
            (root / parent).mkdir(parents=True, exist_ok=True)
            (self.folder / parent).mkdir(parents=True, exist_ok=True)
            self.mounts.append(Mount(self.folder / parent, root / parent, writable=True))
            self.mounts += [self._read_only(parent / entry.name) for entry in self._others(parent)]
        if self.checkpoints:
            self.mounts.append(Mount(self.checkpoints, self.checkpoints, writable=True))
        hidden = self._hidden()
        self.mounts = [*(mount for mount in self.mounts if mount.target not in hidden), *hidden.values()]
        self.before = {output: self._seed(output) for output in self.outputs}

    def _others(self, parent: Path) -> list[Path]:
        """Entries beside the outputs, except their temporary files, and folders that are staged themselves."""
        own = [output.name for output in self.outputs if output.parent == parent]
        return [
            entry
            for entry in sorted((self.root / parent).iterdir())
            if entry.name not in own
            and not any(entry.name.startswith(f".{name}.") for name in own)
            and parent / entry.name not in self.parents
            and entry.exists()
        ]

    def _read_only(self, path: Path) -> Mount:
        """A read-only mount. Its mount point is created here: the engine would create it as root."""
        place = self.folder / path
        if (self.root / path).is_dir():
            place.mkdir()
        else:
            place.touch()
        return Mount(self.root / path, self.root / path, writable=False)

    def _hidden(self) -> dict[Path, Mount]:
        """Mounts of an empty file over every secret of the project, links resolved, by target.

        A secret that is written while the stage runs is not hidden.
        """
        empty = self.root / STAGING / ".empty"
        empty.touch()
        secrets = {path.resolve() for name in SECRETS for path in self.root.glob(name) if path.is_file()}
        return {path: Mount(empty, path, writable=False) for path in sorted(secrets) if path.is_relative_to(self.root)}

    def _seed(self, output: Path) -> tuple[int, int] | None:
        """Copy an output that the stage updates in place; return the identity of the file in the staging folder."""
        source, place = self.root / output, self.folder / output
        if source.is_file():
            shutil.copy2(source, place)
        elif source.is_dir() and output.is_relative_to(REPORTS):  # stages update it in place
            shutil.copytree(source, place)
            return None
        return _identity(place)

    def publish(self) -> None:
        """Move the outputs of this run to where they belong, each whole; move none if one is refused.

        Must be called when no process of the stage is left. Raises ContainerError for an output that is or holds a
        link, which could lead to files that are not the stage's, or a device; for a folder in place of a file, or the
        other way round; for a model whose journal is incomplete or not of this run; and as
        `container_checkpoints.clean` does.
        """
        if self.checkpoints:
            container_checkpoints.clean(self.checkpoints)
        written = [
            output for output in self.outputs if _identity(self.folder / output) not in (None, self.before[output])
        ]
        for output in written:
            self._check_plain(output)
            self._check_kind(output)
            if (self.folder / output).is_dir():
                container_journals.check(self.folder, output, self.run)
        for output in written:
            place = self.folder / output
            if place.is_dir():
                with files.new_folder(self.root / output) as partial:
                    for entry in place.iterdir():
                        _move(entry, partial / entry.name)
            else:
                partial = self.root / output.with_name(f".{output.name}.partial")
                _move(place, partial)
                partial.replace(self.root / output)
        _remove(self.folder)

    def _check_kind(self, output: Path) -> None:
        before, now = self.root / output, self.folder / output
        if before.exists() and before.is_dir() != now.is_dir():
            change = "folder in place of a file" if now.is_dir() else "file in place of a folder"
            raise self._refused(output, f"the stage wrote a {change} (if that is intended, remove the old one)")

    def _check_plain(self, output: Path) -> None:
        """Refuse links and devices in an output, and clear its files' set-user-ID bits.

        Goes from the top down, so that no link is followed, and makes each folder readable before it is read, so that
        nothing is skipped.
        """
        waiting = [output, *output.parents]
        try:
            while waiting:
                path = waiting.pop()
                place = self.folder / path
                mode = place.lstat().st_mode
                if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                    raise self._refused(path, "the stage wrote a link or a device")
                if len(path.parts) > DEPTH:
                    raise self._refused(output, f"the stage wrote more than {DEPTH} nested folders")
                place.chmod(mode & 0o777 | (0o700 if stat.S_ISDIR(mode) else 0o600))
                if stat.S_ISDIR(mode) and path.is_relative_to(output):
                    waiting += [path / entry.name for entry in place.iterdir()]
        except OSError as error:  # such as a path that is too long
            raise self._refused(output, f"the stage's output cannot be read: {error.strerror}") from None

    def _refused(self, path: Path, reason: str) -> ContainerError:
        return ContainerError(
            f"{self.root / path}: {reason}; its outputs stay as they were",
            fix=f"let the stage write plain files and folders; its output is in {self.folder}",
        )


def _move(source: Path, to: Path) -> None:
    """Rename a file or folder, or copy it to another disk and leave the original until everything is copied."""
    try:
        source.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if source.is_dir():
            shutil.copytree(source, to)
        else:
            shutil.copy2(source, to)


def _check_writable(folder: Path) -> None:
    """Raise ContainerError for a folder that cannot be written, before a training runs for hours."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK, effective_ids=True):
        raise ContainerError(f"{existing} cannot be written by user {os.getuid()}", fix="change its owner or its mode")


def _remove(folder: Path) -> None:
    """Remove everything that a stage left, so that the next run finds nothing of it.

    Folders may be unreadable, or nested so deep that no path reaches the last: each is moved up before it is read.
    """
    if not folder.exists():
        return
    folder.chmod(0o700)
    while entries := list(folder.iterdir()):
        for entry in entries:
            if not _is_folder(entry):
                entry.unlink()
                continue
            entry.chmod(0o700)
            for inner in entry.iterdir():
                if _is_folder(inner):
                    inner.chmod(0o700)  # moving a folder writes to it
                inner.rename(folder / str(uuid.uuid4()))
            entry.rmdir()
    folder.rmdir()


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _identity(path: Path) -> tuple[int, int] | None:
    """The inode and modification time of a file or folder; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
