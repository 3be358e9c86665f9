"""The trainer callback that keeps the journal, and stops a training that has gone wrong."""

import math
import statistics
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunesmith.core import processes
from tunesmith.core.errors import TrainingError
from tunesmith.core.journal import Journal
from tunesmith.models import collectives
from tunesmith.training import checks

NAMES = {
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "completions/mean_length": "completion_tokens",
    "frac_reward_zero_std": "equal_groups",
    "rewards/score/mean": "score",
    "sampling/sampling_logp_difference/mean": "drift",
}
"""The journal's names for the numbers that TRL's trainers log, the same for all objectives."""

UNRESTORED = "num_tokens"
"""A count that TRL's trainers start anew when they go on from a checkpoint; the journal's `end` has the tokens."""
SETTLING = 5
"""The number of first steps whose losses stand for the start of a training."""
SPIKE, SUSTAINED = 2.0, 5
"""A spike is a median loss over SUSTAINED steps (one step alone may have hard rows) above SPIKE times the highest loss
of the start.
"""

DRIFTING = 3
"""Rollouts one after another that are above ``max_drift`` when the training stops."""
CONSTANT = 20
"""Steps without any signal after which the training stops."""

RowsOfStep = Callable[[int], list[str]]
"""A function from a step, counted from 1, to the ids of the rows that it trained on."""


class Recorder(TrainerCallback):
    """Writes steps to the journal, shows one progress bar, and raises TrainingError to stop the training.

    It stops where the loss or the gradient is not finite, where the loss spikes, where no reward told one answer from
    another, where the policy is further from its reference than ``max_kl`` (nats a token), and where rollouts one after
    another are by an engine that is further from the policy than ``max_drift`` (nats a token). The error names the step
    and its rows.
    """

    def __init__(
        self,
        log: Journal,
        rows_of: RowsOfStep,
        *,
        max_kl: float | None = None,
        max_drift: float | None = None,
        epochs: float = 1,
        online: bool = False,
    ) -> None:
        """epochs: passes over the rows in one epoch of the trainer. online: whether it trains on its own completions,
        so that its loss does not measure progress.
        """
        self.log, self.rows_of, self.epochs, self.online = log, rows_of, epochs, online
        self.max_kl, self.max_drift = max_kl, max_drift
        self.steps: list[dict[str, float]] = []
        self.bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            desc="training",
            dynamic_ncols=True,
            disable=not processes.is_first(),
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.bar is not None
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        values = {NAMES.get(name, name): value for name, value in (logs or {}).items() if _is_number(value)}
        if "loss" not in values:
            return
        values.pop(UNRESTORED, None)
        if "epoch" in values:
            values["epoch"] *= self.epochs
        self.steps.append({"step": state.global_step, **values})
        self.log.write("step", **self.steps[-1])
        self._check(state.global_step, values)
        assert self.bar is not None
        shown = {name: f"{values[name]:.3f}" for name in ("loss", "reward", "score", "kl") if name in values}
        self.bar.set_postfix(shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.bar is not None
        self.bar.close()

    def _check(self, step: int, values: dict[str, float]) -> None:
        loss, norm = values["loss"], values.get("grad_norm", 0.0)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._error(step, f"loss {loss}, gradient norm {norm}: not finite", "lower the learning rate")
        losses = [entry["loss"] for entry in self.steps]
        start, now = losses[:SETTLING], statistics.median(losses[-SUSTAINED:])
        if not self.online and len(losses) >= SETTLING + SUSTAINED and now > SPIKE * max(start):
            was = statistics.median(start)
            raise self._error(step, f"the loss spiked from {was:.3g} to {now:.3g}", "lower the learning rate")
        if len(self.steps) == CONSTANT:
            checks.check_signal(self.steps)
        kl = values.get("kl")
        if self.max_kl is not None and kl is not None and kl > self.max_kl:
            reason = f"the policy is {kl:.3g} nats a token from its reference, more than max_kl ({self.max_kl:g})"
            raise self._error(step, reason, "raise beta, which pulls it back, or lower the learning rate")

        drifts = [entry["drift"] for entry in self.steps if "drift" in entry][-DRIFTING:]
        if "drift" in values and len(drifts) == DRIFTING and min(drifts) > (self.max_drift or math.inf):
            reason = (
                f"in {DRIFTING} rollouts the engine's log-probabilities differed from the training's by "
                f"{', '.join(f'{drift:.3g}' for drift in drifts)} nats a token, more than rollouts.max_drift "
                f"({self.max_drift:g})"
            )
            raise self._error(step, reason, "set rollouts.engine to transformers, or lower the learning rate,")

    def _error(self, step: int, reason: str, fix: str) -> TrainingError:
        rows = [row for own in collectives.gathered(self.rows_of(step)) for row in own]
        names = f" (rows {', '.join(rows[:8])}{', …' if len(rows) > 8 else ''})" if rows else ""
        return TrainingError(f"step {step}{names}: {reason}", fix=f"{fix} in params.yaml; nothing was saved")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
