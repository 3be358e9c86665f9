"""Save a training while it runs, so that one that was killed goes on from there and ends in the same weights.

transformers writes what it needs to go on: weights, optimizer, schedule, generators, its own state. It writes in place
and reads unchecked, so `core.checkpoints` makes folders of it that appear whole and are verified before they are read.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tunesmith.core import checkpoints, journal, layout, processes
from tunesmith.core.checkpoints import Checkpoint, State, Store
from tunesmith.core.errors import TrainingError
from tunesmith.core.journal import Journal
from tunesmith.models import collectives, weights
from tunesmith.models.device import Profile, peak_memory_bytes
from tunesmith.training import measurements, sharding
from tunesmith.training.measurements import Measurement
from tunesmith.training.trainer_config import BatchRecorder
from tunesmith.training.validation import BEST, Best, Validator

GENERATORS = "rng_state*.pth"
"""The files with the states of a process's generators, which every process writes."""
UNREAD = "training_args.bin"
"""A pickle of arguments that transformers saves and never reads again."""
COST = 0.02
"""The share of a training's time that checkpoints may take, where params.yaml does not say how often they are made."""
SHORTEST = 20.0
"""Seconds between checkpoints, at least, in that case."""
DISK_SPEED = 250e6
"""Bytes a second, by which the duration of the first save is estimated."""
COPIES = 4
"""The size of a checkpoint over that of the trained weights: Adam keeps two moments of each, and the best are there."""


class RunState(State):
    """The state of a training at a checkpoint, beside that of transformers."""

    seconds: float
    """The duration of the training so far."""
    checkpoint_seconds: float
    """The part of it that went into checkpoints."""
    peak_memory_bytes: int
    rows: int
    """The number of rows trained so far, each counted again in each epoch; 0 where none are counted."""
    tokens: int
    """Their tokens."""
    answers: list[str]
    """The answers to the probes before the training."""
    start: dict[str, Any] | None
    """The measurement before the training, by its fields."""
    best: Best | None
    waited: int
    """The measurements since the best."""
    processes: int
    """The number of processes; each had generators of its own."""
    trained: dict[str, str]
    """SHA-256, in hex, of each trained tensor; empty where processes divide them."""


def made_by(checkpoint: Checkpoint) -> int:
    """The number of processes that made a checkpoint."""
    return int(json.loads((checkpoint.folder / checkpoints.STATE).read_text()).get("processes", 1))


class Checkpointer(TrainerCallback):
    """Saves a checkpoint whenever `interval` has passed since the last.

    answers: to the probes before the training. start: what was measured then; None where there is nothing to measure.
    bytes: the size of a checkpoint.
    """

    def __init__(
        self,
        store: Store,
        log: Journal,
        validator: Validator,
        profile: Profile,
        collator: object,
        tokens_of: Mapping[str, int],
        *,
        every: int = 1,
    ) -> None:
        """collator: the trainer's; a `BatchRecorder` counts the rows. tokens_of: the tokens of each row, by its id.

        every: a checkpoint is made after a multiple of so many steps.
        """
        self.store, self.log, self.validator, self.profile, self.tokens_of = store, log, validator, profile, tokens_of
        self.every = every
        self.recorder = collator if isinstance(collator, BatchRecorder) else None
        self.answers: list[str] = []
        self.start: Measurement | None = None
        self.checkpoint: Checkpoint | None = None
        self.resumed: RunState | None = None
        self._saving = False
        self._began = self._save_began = self._saved = time.monotonic()
        self.bytes, self._seconds, self._spent = 0, 0.0, 0.0

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Take up the state of a checkpoint."""
        self.checkpoint = checkpoint
        self.resumed = state = json.loads((checkpoint.folder / checkpoints.STATE).read_text())
        self.answers, self.start = state["answers"], state["start"] and measurements.load(state["start"])
        self.validator.best, self.validator.waited = state["best"], state["waited"]
        if processes.is_first() and (checkpoint.folder / BEST).exists():
            shutil.copyfile(checkpoint.folder / BEST, self.validator.path)
        if self.recorder:
            self.recorder.skipped = state["step"]

    @property
    def seconds(self) -> float:
        """The duration of the training, with that of earlier processes up to the checkpoint."""
        return time.monotonic() - self._began + (self.resumed["seconds"] if self.resumed else 0)

    @property
    def checkpoint_seconds(self) -> float:
        """The part of `seconds` that went into checkpoints."""
        return self._spent + (self.resumed["checkpoint_seconds"] if self.resumed else 0)

    @property
    def peak_memory_bytes(self) -> int:
        """The peak of memory, that of earlier processes included."""
        return max(peak_memory_bytes(self.profile), self.resumed["peak_memory_bytes"] if self.resumed else 0)

    def rows(self, step: int) -> int:
        """The number of rows trained up to a step, each counted again in each epoch; 0 where none are counted.

        All processes call this together, as they do `tokens`.
        """
        here = len(self.recorder.trained(step)) if self.recorder else 0
        return collectives.total(here) + (self.resumed["rows"] if self.resumed else 0)

    def tokens(self, step: int) -> int:
        """The tokens of the rows trained up to a step; 0 where none are counted."""
        here = sum(self.tokens_of[row] for row in self.recorder.trained(step)) if self.recorder else 0
        return collectives.total(here) + (self.resumed["tokens"] if self.resumed else 0)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: Any = None,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        if self.checkpoint and sharding.is_divided(model):
            sharding.load_checkpoint(self.checkpoint.folder, model, optimizer, lr_scheduler)
        self._began = self._saved = time.monotonic()
        self.bytes = COPIES * sum(values.nbytes for values in weights.trained(model).values())
        self._seconds = self.bytes / DISK_SPEED
        saved = self.resumed and self.resumed["trained"]
        if saved and weights.digests(model, trained=True) != saved:
            raise TrainingError(
                f"step {state.global_step}: the weights read from the checkpoint are not those that were saved",
                fix="report this with your params.yaml; the next `dvc repro` trains from the start",
            )

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        ends = control.should_training_stop or state.global_step >= state.max_steps  # an earlier one ends here again
        if ends or self._saving or state.global_step % self.every or not collectives.once(self._is_due):
            return
        if processes.is_first():
            self.store.check_room(self.bytes)
        self._save_began = time.monotonic()
        args.output_dir = str(self.store.unfinished)
        control.should_save = self._saving = True

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved >= self.interval

    @property
    def interval(self) -> float:
        """Seconds from the end of one checkpoint to the next."""
        if chosen := os.environ.get(layout.CHECKPOINT_VARIABLE):
            return float(chosen)
        return max(SHORTEST, self._seconds / COST)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        folder = self.store.unfinished / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        generators = collectives.gathered({path.name: path.read_bytes() for path in folder.glob(GENERATORS)})
        rows, tokens = self.rows(state.global_step), self.tokens(state.global_step)
        trained = weights.digests(model, trained=True)
        if sharding.is_divided(model):
            sharding.save_checkpoint(folder, model, optimizer)
            trained = {}  # each process has others
        if processes.is_first():
            for name, content in (file for files in generators[1:] for file in files.items()):
                (folder / name).write_bytes(content)
            self._keep(folder, state, rows, tokens, trained)
        else:
            shutil.rmtree(folder)
        self._saving, self._saved = False, time.monotonic()
        self._seconds = self._saved - self._save_began
        self._spent += self._seconds

    def _keep(self, folder: Path, state: TrainerState, rows: int, tokens: int, trained: dict[str, str]) -> None:
        """Make a folder that transformers wrote a checkpoint. rows, tokens, trained: as in `RunState`."""
        (folder / UNREAD).unlink()
        shutil.copyfile(self.log.path, folder / journal.NAME)
        if self.validator.path.exists():
            shutil.copyfile(self.validator.path, folder / BEST)
        kept = RunState(
            key=self.store.key,
            step=state.global_step,
            seconds=self.seconds,
            checkpoint_seconds=self.checkpoint_seconds,
            peak_memory_bytes=self.peak_memory_bytes,
            rows=rows,
            tokens=tokens,
            answers=self.answers,
            start=None if self.start is None else asdict(self.start),
            best=self.validator.best,
            waited=self.validator.waited,
            processes=processes.count(),
            trained=trained,
        )
        self.bytes = max(self.bytes, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        self.store.keep(folder, kept)
