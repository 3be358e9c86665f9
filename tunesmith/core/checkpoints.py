"""Checkpoints of trainings that are not done: folders that appear whole and outlive the process that wrote them.

They are in build/checkpoints, where DVC deletes nothing, by the model's name and by a key of everything that defines
the training, so that none is resumed under other params, data, code or libraries. A manifest in each shows damage
before any tensor is read. They hold pickles of torch (optimizer, generators), which are loaded as weights alone, and
are read only where they were written: a container's are apart from the host's.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tunesmith.core import files, formatting, layout, lineage, manifest
from tunesmith.core.errors import BusyError, IntegrityError, ResourceError, TrainingError
from tunesmith.core.lineage import Lineage

HOST, CONTAINERS = layout.CHECKPOINTS / "host", layout.CHECKPOINTS / "container"
"""The folders of all checkpoints that trainings on the host, or in containers, write."""
KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it in case the newest is damaged."""
STATE = "run.json"
"""The file of a checkpoint with its `State`."""
UNFINISHED = ".unfinished"
"""The folder in which the next checkpoint is written."""
MARGIN = 1.1
"""The free space that a save needs, over the bytes that it writes."""


class State(TypedDict):
    """The position of a training at a checkpoint; whoever writes it may add to it."""

    key: str
    """The key of the training."""
    step: int
    """The number of steps done."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a checkpoint. step: the number of steps done."""

    folder: Path
    step: int


def root() -> Path:
    """The folder of all checkpoints that this process may read."""
    return layout.home() / (CONTAINERS if os.environ.get(layout.IMAGE_DIGEST_VARIABLE) else HOST)


def place(model: str, key: str) -> Path:
    """The folder of a training's checkpoints, and of what else it keeps until it is done."""
    return root() / model / key


def key(origin: Lineage, also: object = None) -> str:
    """The key of a training: SHA-256, in hex, over all that its weights follow from.

    also: params that its lineage does not have, such as those of a judge.
    """
    defines = {
        name: origin.get(name)
        for name in ("base", "params", "seed", "method", "on", "parents", "fingerprint", "environment", "hardware")
    }
    if "engine" in origin:
        defines["engine"] = origin["engine"]
    if origin.get("processes", {}).get("sharding") == "full":  # the files are others; how many there are is free
        defines["sharding"] = "full"
    inputs = {path: entry["sha256"] for path, entry in origin["inputs"].items()}
    code = None if origin["fingerprint"] else lineage.package()["sha256"]
    return hashlib.sha256(json.dumps([defines, inputs, code, also], sort_keys=True).encode()).hexdigest()


class Store:
    """The checkpoints of one training. Only one process has it open (`opened`)."""

    def __init__(self, folder: Path) -> None:
        """folder: named by the training's key."""
        self.folder, self.key = folder, folder.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.unfinished, ignore_errors=True)

    @property
    def unfinished(self) -> Path:
        """The folder in which the next checkpoint is written."""
        return self.folder / UNFINISHED

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole. Others are put aside until the training is done, and a line says so."""
        for checkpoint in reversed(self._all()):
            if not (problem := self._problem(checkpoint)):
                return checkpoint
            print(f"  the checkpoint of step {checkpoint.step} is damaged and not used: {problem}", flush=True)
            aside = self.folder / f".damaged-{checkpoint.folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.folder.rename(aside)
        return None

    def _problem(self, checkpoint: Checkpoint) -> str:
        """The reason why a checkpoint cannot be resumed from; "" where it can."""
        try:
            manifest.verify(checkpoint.folder)
            state: State = json.loads((checkpoint.folder / STATE).read_text())
            another = (state["key"], state["step"]) != (self.key, checkpoint.step)
        except IntegrityError as error:
            return error.reason
        except (OSError, ValueError, LookupError, TypeError) as error:
            return f"{STATE} cannot be read ({error})"
        return "it is of another training or step" if another else ""

    def check_room(self, needed: int) -> None:
        """Raise ResourceError unless the disk has room for a checkpoint. needed: its bytes."""
        if not self.has_room(needed):
            raise self.no_room(f"a checkpoint takes {formatting.size(needed)}, and {self.free()} are free")

    def has_room(self, needed: int) -> bool:
        """Whether the disk has room for so many bytes."""
        return shutil.disk_usage(self.folder).free >= needed * MARGIN

    def free(self) -> str:
        """The free space of the disk."""
        return formatting.size(shutil.disk_usage(self.folder).free)

    def no_room(self, reason: str) -> ResourceError:
        """The error of a disk that is full, which leaves the checkpoints that there are."""
        last = self._all()[-1:]
        kept = f"; the one of step {last[0].step} is kept, and the next `dvc repro` goes on from it" if last else ""
        return ResourceError(
            f"{self.folder}: no room for a checkpoint: {reason}{kept}",
            fix="free some space, then `dvc repro`; `tunesmith doctor` shows the checkpoints of other trainings",
        )

    def keep(self, written: Path, state: State) -> None:
        """Make a folder in `unfinished` the newest checkpoint, then remove those beyond the last KEPT."""
        (written / STATE).write_text(json.dumps(state) + "\n")
        manifest.write(written, pickles=True)
        files.settle(written)
        to = self.folder / f"step-{state['step']:08}"
        if to.exists():
            shutil.rmtree(to)
        written.rename(to)
        files.sync(self.folder)
        for old in self._all()[:-KEPT]:
            shutil.rmtree(old.folder)

    def _all(self) -> list[Checkpoint]:
        """The checkpoints by step; each may be damaged."""
        return [Checkpoint(folder, step) for step, folder in _steps(self.folder)]


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a training's folder, by step; a container may have left other names there."""
    names = ((path.name.removeprefix("step-"), path) for path in folder.glob("step-*"))
    return sorted((int(step), path) for step, path in names if step.isdecimal() and len(step) < 20)


@contextmanager
def opened(model: str, key: str) -> Iterator[Store]:
    """The store of a training, which no other process can open until the block or this process ends.

    When the block ends well, or with a TrainingError, from which nothing can go on, the store is removed. Raises
    BusyError where another process has it open.
    """
    folder = place(model, key)
    with _only(folder):
        try:
            yield Store(folder)
        except TrainingError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


@contextmanager
def _only(folder: Path) -> Iterator[None]:
    try:
        lock = ExitStack()
        lock.enter_context(files.only_writer(folder))
    except BusyError as error:
        raise BusyError(
            f"{folder.parent.name}: the same training runs already, here or in an experiment ({error.reason})",
            fix=error.fix,
        ) from None
    with lock:
        yield


def remove(training: "Unfinished") -> bool:
    """Remove a training's checkpoints unless it runs; return whether they were removed."""
    try:
        with files.only_writer(training.folder):
            shutil.rmtree(training.folder, ignore_errors=True)
    except BusyError:
        return False
    return True


@dataclass(frozen=True)
class Unfinished:
    """A training that is not done. step: of its newest checkpoint, or 0. written: when, in seconds since the epoch."""

    folder: Path
    step: int
    bytes: int
    written: float

    @property
    def model(self) -> str:
        """The name of the model that it was to make."""
        return self.folder.parent.name


def unfinished(folder: Path) -> list[Unfinished]:
    """The trainings of a model that are not done. folder: that of the model's checkpoints."""
    found = []
    for store in sorted(path for path in folder.glob("*") if path.is_dir()):
        contents = []
        for place, _, names in os.walk(store):
            for name in names:
                with suppress(FileNotFoundError):  # renamed or removed meanwhile, by a training that runs
                    contents.append(Path(place, name).stat())
        written = max((status.st_mtime for status in contents), default=time.time())
        step = max((step for step, _ in _steps(store)), default=0)
        found.append(Unfinished(store, step, sum(status.st_size for status in contents), written))
    return found
