"""What a stage in a container may write: its outputs, and nothing beside them.

Outputs appear by a rename within the folder they lie in, so that folder must be writable, and with it its other
entries. The container therefore gets a folder of its own in that place, in which the other entries are mounted
read-only; afterwards the outputs, and nothing else, move to where they belong. Files that the stage wrote before are
there; folders are not, since a stage replaces them whole.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tunesmith import atomic
from tunesmith.engines.pipeline import Stage
from tunesmith.errors import EngineError

PLACE = Path(".dvc/tmp/engines")
"""On the project's own file system, and out of sight of git and DVC."""


@dataclass(frozen=True)
class Mount:
    """source: here. target: where the container sees it. Both absolute."""

    source: Path
    target: Path
    writable: bool


class Staging:
    """The writable side of one run of a stage, in ``root``, an absolute path."""

    def __init__(self, root: Path, stage: Stage) -> None:
        self.root, self.outputs = root, stage.outputs
        self.folder = root / PLACE / stage.name
        _remove(self.folder)
        self.parents = sorted({output.parent for output in stage.outputs})
        self.mounts = [Mount(root, root, writable=False)]
        for parent in self.parents:
            (root / parent).mkdir(parents=True, exist_ok=True)
            (self.folder / parent).mkdir(parents=True, exist_ok=True)
            self.mounts.append(Mount(self.folder / parent, root / parent, writable=True))
            self.mounts += [self._shown(parent / entry.name) for entry in self._others(parent)]
        self.staged = [self.folder / output for output in self.outputs]
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

    def _seed(self, output: Path) -> tuple[int, int] | None:
        source, place = self.root / output, self.folder / output
        if source.is_file():
            shutil.copy2(source, place)
        return _identity(place)

    def publish(self) -> None:
        """Move the outputs that are there now to where they belong, each whole or not at all.

        Called when no process of the stage is left. Raises EngineError for an output that is a link or a device, or
        holds one: what it points to is not the stage's.
        """
        for output in self.outputs:
            place = self.folder / output
            if _identity(place) in (None, self.before[output]):
                continue
            self._check_plain(output)
            if place.is_dir():
                with atomic.new_folder(self.root / output) as partial:
                    for entry in place.iterdir():
                        entry.rename(partial / entry.name)
            else:
                place.replace(self.root / output)
        _remove(self.folder)

    def _check_plain(self, output: Path) -> None:
        place = self.folder / output
        inside = place.rglob("*") if place.is_dir() and not place.is_symlink() else []
        above = [self.folder / parent for parent in output.parents]
        for path in (*above, place, *inside):
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise EngineError(
                    f"{self.root / path.relative_to(self.folder)}: the stage wrote a link or a device; its outputs "
                    "stay as they were",
                    fix=f"let the stage write plain files and folders; what it wrote is in {self.folder}",
                )
            path.chmod(path.stat().st_mode & 0o777)  # nobody else runs it as this user


def _remove(folder: Path) -> None:
    """Remove what a stage left, all of it: in what stays, the next run would be shown or given what is not its own."""
    for path, _, _ in os.walk(folder):  # follows no link; top down, so a closed folder is opened before it is entered
        Path(path).chmod(0o700)
    if folder.exists():
        shutil.rmtree(folder)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is, and when it was written; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
