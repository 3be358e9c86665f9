"""The measurement on the validation split by which the trials of a sweep are compared."""

import math
from collections.abc import Sequence
from typing import Literal

from tunesmith.core import journal
from tunesmith.core.errors import ParamsError
from tunesmith.core.journal import Event
from tunesmith.core.params import Objective

By = Literal["loss", "accuracy", "score"]
"""A quantity of `journal.Validation`."""
MEASURES: dict[Objective, tuple[By, ...]] = {
    "sft": ("loss",),
    "dpo": ("loss", "accuracy"),
    "kto": ("loss", "accuracy"),
    "reward": ("loss", "accuracy"),
    "rlhf": ("score",),
    "grpo": ("score",),
}
"""The quantities that trainings of an objective measure; the first chooses the step that a training keeps, too."""
LOWER_IS_BETTER: tuple[By, ...] = ("loss",)

ROWS = "it changes the rows that are measured"
WHEN = "it changes when trials are measured"
REFERENCE = "the preference is measured against the start"
GRADING = "it changes how answers are scored"
FIXED: dict[str, str] = {"dataset": ROWS, "eval_rows": ROWS, "eval_steps": WHEN}
"""Params of every objective that no sweep can vary, each with the reason: trials would not be comparable."""
FIXED_OF: dict[Objective, dict[str, str]] = {
    "sft": {"turns": "it changes the tokens whose loss is measured"},
    "dpo": {"start": REFERENCE},
    "kto": {"start": REFERENCE},
    "reward": {},
    "rlhf": {"reward": GRADING, "verifier": GRADING, "max_new_tokens": "it changes how long answers may be"},
    "grpo": {"rewards": GRADING, "refusal_by": GRADING, "max_new_tokens": "it changes how long answers may be"},
}
"""Further such params of an objective."""


def choose(objective: Objective, by: str | None, params: Sequence[str]) -> By:
    """The quantity to compare trials by, where these params vary: ``by``, or the first that the objective measures.

    Raises ParamsError for a quantity that is not measured, and for a param with which trials are not comparable.
    """
    measures = MEASURES[objective]
    if by is not None and by not in measures:
        raise ParamsError(
            f"--by {by}: trainings of {objective} do not measure it", fix=f"name one of {', '.join(measures)}"
        )
    chosen = next((name for name in measures if name == by), measures[0])
    fixed = FIXED | FIXED_OF[objective]
    for param in params:
        if (reason := fixed.get(param.split(".")[0])) is not None:
            raise ParamsError(f"--over {param}: {reason}, so that trials are not comparable", fix="leave it out")
        if param == "beta" and objective in ("dpo", "kto") and chosen == "loss":
            raise ParamsError(
                "--over beta: the validation loss scales with it, so that trials are not comparable",
                fix="compare them by --by accuracy",
            )
    return chosen


def measured(events: Sequence[Event], by: By) -> list[tuple[int, float | None]]:
    """The measurements after the start, each as its step and its value; None where that is not finite."""
    return [(one["step"], _finite(one.get(by))) for one in journal.validations(events) if one["step"]]


def before(events: Sequence[Event], by: By) -> float | None:
    """The measurement before the first step; None where there is none."""
    return next((_finite(one.get(by)) for one in journal.validations(events) if not one["step"]), None)


def result(events: Sequence[Event], by: By) -> tuple[int, float | None]:
    """The step whose weights a finished training kept, and its value; None where that is not finite or not measured."""
    kept = journal.first(events, "end")["kept"]
    return kept, dict(measured(events, by)).get(kept)


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
