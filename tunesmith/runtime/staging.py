"""What a stage in a container may write: its outputs, and nothing beside them.

Outputs appear by a rename within the folder they lie in, so that folder must be writable, and with it its other
entries. The container therefore gets a folder of its own in that place, in which the other entries are mounted
read-only; afterwards the outputs, and nothing else, move to where they belong. Files that the stage wrote before are
there; folders are not, since a stage replaces them whole.
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
from tunesmith.core.errors import EngineError
from tunesmith.core.layout import REPORTS
from tunesmith.runtime import container_journals

PLACE = Path(".dvc/tmp/engines")
"""In the project, and out of sight of git and DVC."""
SECRETS = (".env*", ".dvc/config.local", ".git/config", "*.pem", "*.key", "keys/*.pem", "keys/*.key", "deploy/.env*")
"""Files of the project that may hold passwords or private keys. No stage needs one, so each is shown empty."""
DEPTH = 32
"""Folders within one another in an output, at most: what copies or removes it goes down by recursion."""


@dataclass(frozen=True)
class Mount:
    """source: here. target: where the container sees it. Both absolute."""

    source: Path
    target: Path
    writable: bool


class Staging:
    """The writable side of one run of a stage, in ``root``, an absolute path.

    run: what this run is called, as no other is.
    """

    def __init__(self, root: Path, stage: Stage) -> None:
        self.root, self.outputs, self.run = root, stage.outs, str(uuid.uuid4())
        self.folder = root / PLACE / stage.target
        _remove(self.folder)
        self.parents = sorted({output.parent for output in stage.outs})
        self.mounts = [Mount(root, root, writable=False)]
        for output in stage.outs:
            files.recover(root / output)
        for parent in self.parents:
            _check_writable(root / parent)
            (root / parent).mkdir(parents=True, exist_ok=True)
            (self.folder / parent).mkdir(parents=True, exist_ok=True)
            self.mounts.append(Mount(self.folder / parent, root / parent, writable=True))
            self.mounts += [self._shown(parent / entry.name) for entry in self._others(parent)]
        hidden = self._hidden()
        self.mounts = [*(mount for mount in self.mounts if mount.target not in hidden), *hidden.values()]
        self.before = {output: self._seed(output) for output in self.outputs}

    def _others(self, parent: Path) -> list[Path]:
        """Entries beside the outputs; not what atomic keeps beside them, nor folders that are staged themselves."""
        mine = [output.name for output in self.outputs if output.parent == parent]
        return [
            entry
            for entry in sorted((self.root / parent).iterdir())
            if entry.name not in mine
            and not any(entry.name.startswith(f".{name}.") for name in mine)
            and parent / entry.name not in self.parents
            and entry.exists()
        ]

    def _shown(self, path: Path) -> Mount:
        """A mount of what is not to be written. Its place is made here: made by the engine, it would be root's."""
        place = self.folder / path
        if (self.root / path).is_dir():
            place.mkdir()
        else:
            place.touch()
        return Mount(self.root / path, self.root / path, writable=False)

    def _hidden(self) -> dict[Path, Mount]:
        """By target: an empty file in the place of every secret, where it really lies if that is in the project.

        A secret that is put there while the stage runs is not hidden.
        """
        empty = self.root / PLACE / ".empty"
        empty.touch()
        found = {path.resolve() for name in SECRETS for path in self.root.glob(name) if path.is_file()}
        return {path: Mount(empty, path, writable=False) for path in sorted(found) if path.is_relative_to(self.root)}

    def _seed(self, output: Path) -> tuple[int, int] | None:
        source, place = self.root / output, self.folder / output
        if source.is_file():
            shutil.copy2(source, place)
        elif source.is_dir() and output.is_relative_to(REPORTS):  # which a stage updates in place
            shutil.copytree(source, place)
            return None
        return _identity(place)

    def publish(self) -> None:
        """Move the outputs that are there now to where they belong, each whole; none, if one of them is refused.

        Called when no process of the stage is left. Raises EngineError for an output that is a link or a device, or
        holds one: what it points to is not the stage's; for a folder in place of a file, or the other way round; and
        for a model whose journal is not of this run, or not whole.
        """
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
                        _bring(entry, partial / entry.name)
            else:
                partial = self.root / output.with_name(f".{output.name}.partial")
                _bring(place, partial)
                partial.replace(self.root / output)
        _remove(self.folder)

    def _check_kind(self, output: Path) -> None:
        before, now = self.root / output, self.folder / output
        if before.exists() and before.is_dir() != now.is_dir():
            what = "folder in place of a file" if now.is_dir() else "file in place of a folder"
            raise self._refused(output, f"the stage wrote a {what} (if it is meant, remove the old one)")

    def _check_plain(self, output: Path) -> None:
        """From the top down, so that no link is followed; folders are opened, then read, so that none is skipped.

        What passes, nobody else runs as this user.
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
                    raise self._refused(output, f"the stage wrote more than {DEPTH} folders within one another")
                place.chmod(mode & 0o777 | (0o700 if stat.S_ISDIR(mode) else 0o600))
                if stat.S_ISDIR(mode) and path.is_relative_to(output):
                    waiting += [path / entry.name for entry in place.iterdir()]
        except OSError as error:  # such as a path that is too long
            raise self._refused(output, f"what the stage wrote cannot be read: {error.strerror}") from None

    def _refused(self, path: Path, reason: str) -> EngineError:
        return EngineError(
            f"{self.root / path}: {reason}; its outputs stay as they were",
            fix=f"let the stage write plain files and folders; what it wrote is in {self.folder}",
        )


def _bring(source: Path, to: Path) -> None:
    """Rename it, or copy it to another disk; it then stays here until all is there."""
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
    """Told now, and not when a training has run for hours. Raises EngineError."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK, effective_ids=True):
        raise EngineError(f"{there} cannot be written by user {os.getuid()}", fix="make it theirs")


def _remove(folder: Path) -> None:
    """Remove what a stage left, all of it: in what stays, the next run would be shown or given what is not its own.

    Folders may be closed, and so many within one another that no path reaches the last: each moves up, then is read.
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
                    inner.chmod(0o700)  # a folder that is moved is written to
                inner.rename(folder / str(uuid.uuid4()))
            entry.rmdir()
    folder.rmdir()


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, and when it was written; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
