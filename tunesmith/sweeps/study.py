"""The study of a sweep: Optuna proposes values, learns what came of them, and says which trials to stop.

It is kept in a file of Optuna's, so that a sweep that was interrupted goes on. A trial's sampler is seeded by the seed
of the sweep plus the number of proposals so far: with one trial at a time, the same results lead to the same proposals,
interrupted or not.
"""

import itertools
import json
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tunesmith.core import params_text
from tunesmith.core.errors import IntegrityError
from tunesmith.sweeps import space
from tunesmith.sweeps.space import Choices, Dimension, Range

FIRST = 4
"""The finished trials before one may be stopped, and the random proposals before the sampler learns from results."""
UNSTOPPED = 1
"""The number of first measurements by which no trial is stopped, since they say least."""
REPEATED = 100
"""Proposals in a row that were tried before, after which the space counts as searched."""
NAME, VALUES, OUTCOME, REPEAT, AGAIN = "name", "values", "outcome", "repeat", "again"
"""Attributes of Optuna's trials: ours, and whether one repeats another, or was interrupted and begins again."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run. name: of its experiment. values: by param."""

    name: str
    values: dict[str, object]
    trial: optuna.Trial = field(compare=False, repr=False)


class Study:
    """The trials of one sweep, and Optuna's view of them."""

    def __init__(
        self, path: Path, name: str, dimensions: Sequence[Dimension], *, lower_is_better: bool, seed: int, prune: bool
    ) -> None:
        """Open the study in the file ``path``, or begin it. prune: whether bad trials are stopped.

        Raises IntegrityError where the file is damaged.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name, self.dimensions, self.seed = name, dimensions, seed
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut(path)
        pruner = optuna.pruners.MedianPruner(FIRST, UNSTOPPED) if prune else optuna.pruners.NopPruner()
        self.study = optuna.create_study(
            storage=_storage(path),
            study_name=name,
            direction="minimize" if lower_is_better else "maximize",
            pruner=pruner,
            load_if_exists=True,
        )

    @property
    def sampler(self) -> str:
        """The sampler, in words."""
        return f"{'every combination' if self._is_grid else 'TPE'}, Optuna {optuna.__version__}, seed {self.seed}"

    @property
    def _is_grid(self) -> bool:
        """Whether the space is so small that every combination is tried."""
        return space.size(self.dimensions) <= float(self.study.user_attrs.get("trials", 0))

    def begin(self, trials: int, present: Mapping[str, object]) -> None:
        """Go on up to this many trials. present: values of params.yaml, tried first where they are in the space.

        Trials that were running when an earlier process ended begin again; so do those that failed, if all did.
        """
        self.study.set_user_attr("trials", trials)
        old = self.study.get_trials(deepcopy=False)
        own = _own(old)
        hopeless = all(trial.state in (TrialState.FAIL, TrialState.RUNNING) for trial in own)
        for frozen in old:
            running = frozen.state == TrialState.RUNNING
            if running:
                self.study.tell(frozen.number, state=TrialState.FAIL)
            if frozen in own and (running or hopeless):
                self.study.enqueue_trial(frozen.params, user_attrs={AGAIN: frozen.number})
        if not old and (encoded := self._encoded(present)) is not None:
            self.study.enqueue_trial(encoded)
        if self._is_grid:
            combinations = [*itertools.product(*map(_all, self.dimensions))]
            random.Random(self.seed).shuffle(combinations)
            for values in combinations:
                names = [dimension.param for dimension in self.dimensions]
                self.study.enqueue_trial(dict(zip(names, values, strict=True)), skip_if_exists=True)

    def _encoded(self, present: Mapping[str, object]) -> dict[str, object] | None:
        """Values as Optuna's params; None where one is not in the space."""
        encoded: dict[str, object] = {}
        for dimension in self.dimensions:
            value = present.get(dimension.param)
            if isinstance(dimension, Choices):
                if value not in dimension.values:
                    return None
                encoded[dimension.param] = params_text.flow(dimension.values[dimension.values.index(value)])
            elif isinstance(value, int | float) and dimension.low <= value <= dimension.high:
                encoded[dimension.param] = value
            else:
                return None
        return encoded

    def ask(self) -> Proposal | None:
        """Propose a trial that was not tried before; None where everything was."""
        for _ in range(REPEATED):
            trials = self.study.get_trials(deepcopy=False)
            if sum(VALUES in trial.user_attrs for trial in _own(trials)) >= space.size(self.dimensions):
                return None
            seed = self.seed + sum(REPEAT in trial.user_attrs for trial in trials) + len(_own(trials))
            self.study.sampler = TPESampler(seed=seed, n_startup_trials=FIRST, constant_liar=True)
            trial = self.study.ask()
            values = {dimension.param: _suggested(trial, dimension) for dimension in self.dimensions}
            text = json.dumps(values)
            earlier = next((one for one in _own(trials) if one.user_attrs.get(VALUES) == text), None)
            if earlier is None:
                taken = {one.user_attrs[NAME] for one in _own(trials)}
                names = (f"{self.name}-{number:02d}" for number in range(1, len(taken) + 2))
                trial.set_user_attr(NAME, name := next(name for name in names if name not in taken))
                trial.set_user_attr(VALUES, text)
                return Proposal(name, values, trial)
            trial.set_user_attr(REPEAT, earlier.number)
            complete = earlier.state == TrialState.COMPLETE
            self.study.tell(trial, earlier.value if complete else None, None if complete else TrialState.FAIL)
        return None

    def report(self, proposal: Proposal, count: int, value: float) -> bool:
        """Record the measurement number ``count``, from 0, of a running trial; return whether to stop the trial."""
        proposal.trial.report(value, count)
        own = _own(self.study.get_trials(deepcopy=False))  # Optuna's pruner counts repeated proposals, too
        enough = sum(trial.state == TrialState.COMPLETE for trial in own) >= FIRST
        return enough and bool(proposal.trial.should_prune())

    def finish(self, proposal: Proposal, value: float, outcome: Mapping[str, object]) -> None:
        """Record the measurement of a trial that ran to its end."""
        self._close(proposal, outcome, value, None)

    def stop(self, proposal: Proposal, outcome: Mapping[str, object]) -> None:
        """Record that a trial was stopped for its measurements."""
        self._close(proposal, outcome, None, TrialState.PRUNED)

    def fail(self, proposal: Proposal, outcome: Mapping[str, object]) -> None:
        """Record that a trial failed."""
        self._close(proposal, outcome, None, TrialState.FAIL)

    def _close(
        self, proposal: Proposal, outcome: Mapping[str, object], value: float | None, state: TrialState | None
    ) -> None:
        proposal.trial.set_user_attr(OUTCOME, json.dumps(outcome))
        self.study.tell(proposal.trial, value, state)

    @property
    def outcomes(self) -> list[dict[str, object]]:
        """The outcomes of the trials that are over, as they were recorded."""
        trials = _own(self.study.get_trials(deepcopy=False))
        return [json.loads(trial.user_attrs[OUTCOME]) for trial in trials if OUTCOME in trial.user_attrs]


def _cut(path: Path) -> None:
    """Remove an incomplete last line of Optuna's record: what is appended to it would damage the record for good."""
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def _storage(path: Path) -> JournalStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what of Optuna counts as experimental
        try:
            return JournalStorage(JournalFileBackend(str(path)))
        except (ValueError, LookupError) as error:
            raise IntegrityError(
                f"{path}: Optuna's record of the sweep is damaged: {error}",
                fix=f"remove {path.parent}; the same command then begins anew",
            ) from None


def _own(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials but those that repeat another, that begin again, or that wait to begin."""
    again = {trial.user_attrs.get(AGAIN) for trial in trials}
    return [
        trial
        for trial in trials
        if VALUES in trial.user_attrs
        and (OUTCOME in trial.user_attrs or trial.state == TrialState.RUNNING)
        and trial.number not in again
    ]


def _suggested(trial: optuna.Trial, dimension: Dimension) -> object:
    if isinstance(dimension, Choices):
        texts = [params_text.flow(value) for value in dimension.values]
        return dimension.values[texts.index(str(trial.suggest_categorical(dimension.param, texts)))]
    if dimension.whole:
        return trial.suggest_int(dimension.param, int(dimension.low), int(dimension.high), log=dimension.logarithmic)
    value = trial.suggest_float(dimension.param, dimension.low, dimension.high, log=dimension.logarithmic)
    return dimension.rounded(value)


def _all(dimension: Choices | Range) -> list[str | int]:
    if isinstance(dimension, Choices):
        return [params_text.flow(value) for value in dimension.values]
    return [*range(int(dimension.low), int(dimension.high) + 1)]
