"""Attempts at trainings, recorded on the host, so that the tracker shows one run for a training that was killed.

Each attempt is a run of its own. An attempt on the same inputs as one that was killed supersedes it, whether it goes on
from a checkpoint or begins anew: the run of the killed one is deleted. On other inputs, that run stays, as KILLED.

.dvc/tmp/tunesmith/attempts/<model>/<key>.open is the record of an attempt that has not ended well; .superseded, of one
whose place another has taken. Containers cannot write there. An attempt is alive while a process holds the lock on its
record: the one that runs the stage, or the journal's publisher, which inherits it and may still make the run.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.core import files, layout
from tunesmith.core.errors import RegistryError, UnreachableTrackerError

if TYPE_CHECKING:
    from tunesmith.registry.runs import Experiment

FOLDER = Path(".dvc/tmp/tunesmith/attempts")
"""The folder of the records, by model, relative to the project's root."""
OPEN, SUPERSEDED = ".open", ".superseded"


@dataclass(frozen=True)
class Attempt:
    """An attempt, by its record."""

    record: Path

    @property
    def key(self) -> str:
        """The key of its journal, and of its run."""
        return self.record.stem

    @property
    def inputs(self) -> str | None:
        """The digest of its inputs; None where they are not known, or the record is gone."""
        try:
            return self.record.read_text() or None
        except FileNotFoundError:
            return None

    @property
    def is_superseded(self) -> bool:
        """Whether an attempt on the same inputs ended well."""
        return self.record.suffix == SUPERSEDED

    def is_alive(self) -> bool:
        """Whether it runs, or is being published."""
        try:
            with self.record.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


@dataclass(frozen=True)
class Running(Attempt):
    """The attempt of this process. lock: a descriptor that keeps it alive in each process that inherits it."""

    lock: int

    def end_well(self) -> None:
        """Forget this attempt, and have those on the same inputs superseded."""
        inputs = self.inputs
        for other in _of(self.record.parent):
            if other.key != self.key and inputs is not None and other.inputs == inputs:
                with suppress(FileNotFoundError):  # the publisher has settled it
                    other.record.rename(other.record.with_suffix(SUPERSEDED))
        self.record.unlink(missing_ok=True)


@contextmanager
def recorded(home: Path, model: str, key: str, inputs: str | None) -> Iterator[Running | None]:
    """Record an attempt at training ``model``, alive while the block runs; None where the project has no DVC.

    home: the project's root (`layout.home`). key: of its journal. inputs: a digest of all that the stage follows from;
    None where that is not known.
    """
    if not (home / ".dvc").is_dir():
        yield None
        return
    record = home / FOLDER / model / f"{key}{OPEN}"
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(inputs or "")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        files.sync(partial)
        partial.rename(record)
        yield Running(record, file.fileno())


def models() -> list[str]:
    """The models that were attempted."""
    return sorted(folder.name for folder in (layout.home() / FOLDER).glob("*"))


def settle(experiment: "Experiment", model: str, key: str | None = None, *, ended: bool = False) -> bool:
    """Delete the runs of a model's superseded attempts, and end the runs of others that are dead as KILLED.

    key: of the attempt that is published; those on the same inputs are superseded. ended: whether that one ended well,
    so that nothing goes on from the others, which are forgotten. Returns False while one to delete is alive. Raises
    UnreachableTrackerError.
    """
    folder = layout.home() / FOLDER / model
    inputs = Attempt(folder / f"{key}{OPEN}").inputs
    settled = True
    for attempt in _of(folder):
        delete = attempt.is_superseded or (inputs is not None and attempt.inputs == inputs)
        if attempt.key == key:
            continue
        if attempt.is_alive():
            settled &= not delete
            continue
        try:
            experiment.abandon(attempt.key, model, delete=delete)
        except UnreachableTrackerError:
            raise
        except RegistryError:  # this account may not; another may
            continue
        if delete or ended:
            attempt.record.unlink(missing_ok=True)
    return settled


def _of(folder: Path) -> list[Attempt]:
    """The attempts recorded in the folder of a model."""
    return [Attempt(record) for record in sorted(folder.glob("*")) if record.suffix in (OPEN, SUPERSEDED)]
