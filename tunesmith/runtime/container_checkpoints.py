"""The folder in which a training in a container keeps its checkpoints, mounted from the project and writable.

It outlives the container, since the next one goes on from it. So whatever a hostile stage left there is in the
project: the host removes all but plain files and folders, which are all that a training writes.
"""

import os
import stat
import sys
from pathlib import Path

from tunesmith.core import checkpoints, layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.runtime.container_journals import FOLDER

DEPTH = 8
"""Limit on nested folders; a checkpoint has three."""


def of(stage: Stage, root: Path) -> Path | None:
    """The folder of a training's checkpoints, absolute, named by its model; None for another stage.

    root: of the project, or of a copy in which DVC runs an experiment.
    """
    models = [output.name for output in stage.outs if output.parent == layout.MODELS]
    if not stage.target.startswith("train_") or not models:
        return None
    return layout.home(root) / checkpoints.CONTAINERS / models[0]


def clean(folder: Path) -> None:
    """Remove links, pipes, sockets, devices and files with set-user-ID bits from a folder of checkpoints.

    Another container, of an experiment, may change the folder meanwhile: each name is looked up in an open folder, and
    no link is followed. Raises ContainerError for folders that cannot be read or are nested more than DEPTH deep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    removed = _clean(_open(folder, None, folder), folder)
    if removed:
        print(f"note: {folder}: {removed} entries were no plain files, as no training writes; removed", file=sys.stderr)


def _clean(descriptor: int, folder: Path, depth: int = 0) -> int:
    """Clean an open folder and close it; return the number of entries removed."""
    removed = 0
    try:
        if depth > DEPTH:
            raise _refused(folder, f"more than {DEPTH} nested folders")
        for name in os.listdir(descriptor):
            try:
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    removed += _clean(_open(name, descriptor, folder / name), folder / name, depth + 1)
                elif not stat.S_ISREG(mode) or mode & (stat.S_ISUID | stat.S_ISGID):
                    os.unlink(name, dir_fd=descriptor)
                    removed += 1
            except FileNotFoundError:  # removed meanwhile
                continue
    finally:
        os.close(descriptor)
    return removed


def _open(name: str | Path, above: int | None, folder: Path) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except FileNotFoundError:
        raise
    except OSError as error:  # closed to its owner, or put in place of a folder at this moment
        raise _refused(folder, str(error.strerror)) from None


def _refused(folder: Path, reason: str) -> ContainerError:
    return ContainerError(
        f"{folder} is refused: {reason}",
        fix="no training of ours writes that: remove it, and find out what else the stage runs",
    )
