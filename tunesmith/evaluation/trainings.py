"""What the journal of a model's training says of it: the step whose weights it has, and what is doubtful."""

from collections.abc import Mapping, Sequence
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


def reward_model(events: Sequence[Event]) -> str | None:
    """The name of the reward model that a training followed."""
    name = journal.entry(journal.first(events, "start")).get("reward")
    return name if isinstance(name, str) else None


def warnings(events: Sequence[Event], reward_models: Mapping[str, Sequence[Event]]) -> list[str]:
    """The texts of a training's warnings, and of those of the reward model that it followed, by their journals."""
    followed = reward_model(events)
    doubts = _own_warnings(reward_models.get(followed, [])) if followed else []
    return [*_own_warnings(events), *(f"its reward model {followed}: {text}" for text in doubts)]


def unfollowed_warnings(
    trainings: Sequence[Sequence[Event]], reward_models: Mapping[str, Sequence[Event]]
) -> list[tuple[str, str]]:
    """The warnings of the reward models that none of these trainings followed: the name, and the text of each."""
    followed = {reward_model(events) for events in trainings}
    return [
        (name, text) for name, events in reward_models.items() if name not in followed for text in _own_warnings(events)
    ]


def _own_warnings(events: Sequence[Event]) -> list[str]:
    return [event["text"] for event in events if event["event"] == "warning"]
