"""The step whose weights a model has, and what chose it: a pure function of the training's journal."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from tunesmith.core import journal
from tunesmith.core.journal import Event, Validation


class Selection(TypedDict):
    """The choice of the step whose weights a model has."""

    steps: int
    """The number of steps of the training."""
    kept: int
    """The step whose weights the model has."""
    by: Literal["loss", "score"] | None
    """The quantity of `validation` that is best at that step; null where nothing was measured, or params.yaml keeps the
    last step."""
    validation: list[Validation]
    """The measurements on the validation split, from step 0, before the training, to the last."""


def selection(events: Sequence[Event]) -> Selection | None:
    """The choice of the step; None for the base, for a merged model, and where an older journal does not say."""
    start, end = journal.first(events, "start"), journal.first(events, "end")
    if "kept" not in end or "merged" in start:
        return None
    measured = journal.validations(events)
    chose = any(one["step"] for one in measured) and journal.entry(start).get("keep", "best") == "best"
    quantity: Literal["loss", "score"] = "score" if any("score" in one for one in measured) else "loss"
    return {
        "steps": end["steps"],
        "kept": end["kept"],
        "by": quantity if chose else None,
        "validation": measured,
    }
