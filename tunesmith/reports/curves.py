"""Small charts of the quantities that a training's journal records step by step, beside those of the validation split.

What is measured on the validation split is drawn in the chart of the training's same quantity: the score of greedy
answers in that of the verifier's score, or else of the reward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from tunesmith.core import journal
from tunesmith.core.journal import Event, StartEvent
from tunesmith.reports import axes
from tunesmith.reports.axes import NUMBER, SHARE, Axis, Position, Unit

WIDTH, HEIGHT = 260, 130
"""Size of a chart, in SVG units."""
LEFT, RIGHT, TOP, BOTTOM = 42, 248, 12, 104
"""Edges of its drawing area."""
ROUNDING = 1e-4
"""Rounding error of a loss that is 0 by construction: RLOO's on its own policy's answers."""
SMOOTHED = 20
"""Number of steps from which a running mean is drawn, as single steps are noise."""

QUANTITIES: dict[str, tuple[str, Unit]] = {
    "loss": ("loss", NUMBER),
    "validation_loss": ("validation loss, nats a pair", NUMBER),
    "reward": ("reward", NUMBER),
    "score": ("score by the verifier", SHARE),
    "kl": ("KL from the reference policy", NUMBER),
    "completion_tokens": ("completion length, tokens", NUMBER),
    "equal_groups": ("groups of equal rewards", SHARE),
    "accuracy": ("pairs ranked right", SHARE),
    "margin": ("margin, chosen − rejected", NUMBER),
}
"""The title and the unit of each quantity that is drawn if the journal has it, in the order of the charts."""
PAIR_LOSSES = ("sigmoid", {"sigmoid": 1.0})
"""DPO's `loss_type` where its loss is that of the validation split, the surprise at a pair's label."""

Point = tuple[int, float | None]
"""A step and its value; None where it is not finite."""


@dataclass(frozen=True)
class Curve:
    """A chart of one quantity."""

    title: str
    steps: int
    """The number of values, those of the validation split included."""
    x: Axis | None
    """The axis of the step; None if no value is finite."""
    y: Axis | None
    """The axis of the quantity; None if no value is finite."""
    lines: list[list[Position]]
    """The values as lines, which break where one is missing."""
    mean: list[list[Position]]
    """The running mean as lines; empty for few steps."""
    validation: list[list[Position]]
    """The measurements on the validation split as lines; empty where there are none of this quantity."""
    kept: float | None
    """The x of the step whose weights the model has; None if no value is finite or the journal does not say."""


def curves(events: Sequence[Event]) -> list[Curve]:
    """A curve for every quantity that the journal's steps, or its measurements on the validation split, name."""
    trained, measured = ({name: _points(events, kind, name) for name in QUANTITIES} for kind in ("step", "validation"))
    if _are_close(trained["score"], trained["reward"]):  # the verifier is the reward
        trained["score"] = []
    if trained["reward"] and all(abs(value or 0) < ROUNDING for _, value in trained["loss"]):
        trained["loss"] = []
    if trained["reward"] and not trained["score"]:
        measured["reward"], measured["score"] = measured["score"], []
    if not _is_surprise(journal.first(events, "start")):
        measured["validation_loss"], measured["loss"] = measured["loss"], []
    kept = journal.first(events, "end").get("kept")
    return [
        _curve(*QUANTITIES[name], trained[name], measured[name], kept)
        for name in QUANTITIES
        if trained[name] or measured[name]
    ]


def _points(events: Sequence[Event], kind: str, name: str) -> list[Point]:
    """A quantity at the steps of the events of a kind that name it."""
    steps = [cast("dict[str, Any]", event) for event in events if event["event"] == kind]
    return [(event["step"], _finite(event[name])) for event in steps if name in event]


def _is_surprise(start: StartEvent) -> bool:
    """Whether the training's loss is what the validation split's is: the mean surprise at a token or at a label."""
    if start.get("objective") == "dpo":
        return journal.entry(start).get("loss_type", "sigmoid") in PAIR_LOSSES
    return start.get("objective") != "kto"


def _curve(title: str, unit: Unit, trained: Sequence[Point], measured: Sequence[Point], kept: int | None) -> Curve:
    """The chart of points in the order of their steps. kept: the step whose weights the model has."""
    points = [*trained, *measured]
    values = [value for _, value in points if value is not None]
    if not values:
        return Curve(title, len(points), None, None, [], [], [], None)
    y = axes.linear(values, (BOTTOM, TOP), unit)
    last = max(step for step, _ in points)
    x = Axis(0, last or 1, LEFT, RIGHT, False, sorted({0, last}), lambda step: f"{step:,.0f}")
    mean = _lines(_running_mean(trained), x, y) if len(trained) >= SMOOTHED else []
    return Curve(
        title,
        len(points),
        x,
        y,
        _lines(trained, x, y),
        mean,
        _lines(measured, x, y),
        None if kept is None else x.at(kept),
    )


def _lines(points: Sequence[Point], x: Axis, y: Axis) -> list[list[Position]]:
    """Runs of values without a missing one between them."""
    lines: list[list[Position]] = [[]]
    for step, value in points:
        if value is not None:
            lines[-1].append((x.at(step), y.at(value)))
        elif lines[-1]:
            lines.append([])
    return [line for line in lines if line]


def _running_mean(points: Sequence[Point]) -> list[Point]:
    """The mean of the tenth of all steps around each value; missing values stay missing."""
    reach = len(points) // 20
    smooth: list[Point] = []
    for index, (step, value) in enumerate(points):
        around = [near for _, near in points[max(0, index - reach) : index + reach + 1] if near is not None]
        smooth.append((step, None if value is None else sum(around) / len(around)))
    return smooth


def _are_close(first: Sequence[Point], second: Sequence[Point]) -> bool:
    """Whether two curves have the same steps and the same values, up to rounding."""
    return len(first) == len(second) and all(
        step == other_step and (a is None) == (b is None) and math.isclose(a or 0, b or 0, rel_tol=1e-3)
        for (step, a), (other_step, b) in zip(first, second, strict=True)
    )


def _finite(value: object) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
