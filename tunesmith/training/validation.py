"""Measure the validation split while a training runs, keep the weights of the best step, stop where none is better."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunesmith.core import processes
from tunesmith.core.checkpoints import Store
from tunesmith.core.journal import Journal
from tunesmith.models import collectives, weights
from tunesmith.training.entries.common import Entry
from tunesmith.training.measurements import Measurement

BEST = "best.safetensors"
"""The file with the weights of the best step so far."""


class Best(TypedDict):
    """The best step so far; the last of equals."""

    step: int
    error: float
    """The measurement's `error`: lower is better."""


class Validator(TrainerCallback):
    """Measures the validation split after every `eval_steps` and at the last step.

    best: the best step so far; None before the first measurement. waited: measurements since. measured: the
    measurement at each step of this process.
    """

    def __init__(self, log: Journal, measure: Callable[[], Measurement] | None, entry: Entry, store: Store) -> None:
        self.log, self.measure, self.entry, self.store = log, measure, entry, store
        self.path.unlink(missing_ok=True)
        self.best: Best | None = None
        self.waited = 0
        self.measured: dict[int, Measurement] = {}

    @property
    def path(self) -> Path:
        """The file with the weights of the best step, as long as the training runs."""
        return self.store.folder / BEST

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Any = None, **_: Any
    ) -> None:
        step = state.global_step
        if self.measure is None or step in self.measured or not self._is_due(step, state.max_steps):
            return
        with torch.random.fork_rng():  # whatever is drawn here, the training draws the same
            self.measured[step] = found = collectives.of_first(self.measure())  # others may round otherwise
        self.write(step, found)
        error = math.inf if math.isnan(found.error) else found.error
        lowest = math.inf if self.best is None else self.best["error"]
        self.waited = 0 if self.best is None or error < lowest else self.waited + 1
        control.should_training_stop |= self.entry.patience is not None and self.waited >= self.entry.patience
        if error <= lowest:  # of equals the last, which has learned most
            self.best = {"step": step, "error": error}
            if self.entry.keep == "best":
                self._save(model)

    def write(self, step: int, measured: Measurement) -> None:
        """Write a measurement to the journal."""
        self.log.write("validation", step=step, **measured.numbers)

    def _is_due(self, step: int, last: int) -> bool:
        every = self.entry.eval_steps
        every = math.ceil(every * last) if every < 1 else round(every)
        return step == last or step % every == 0

    def _save(self, model: torch.nn.Module) -> None:
        trained = weights.gathered(model)
        if not processes.is_first():
            return
        self.store.check_room(sum(values.nbytes for values in trained.values()))
        partial = self.path.with_suffix(".partial")
        save_file(trained, partial)
        partial.replace(self.path)

    def keep(self, model: torch.nn.Module, last: int) -> int:
        """Give ``model`` the weights to keep, and return their step. last: the last step."""
        if self.entry.keep == "last" or self.best is None or self.best["step"] == last:
            return last
        kept = load_file(self.path) if processes.is_first() else {}
        for name, parameter in weights.trained(model).items():
            collectives.put(parameter, kept.get(name))
        return self.best["step"]
