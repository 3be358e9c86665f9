"""Small charts of the quantities that a training's journal records step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.core.journal import Event
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
    "reward": ("reward", NUMBER),
    "score": ("score by the verifier", SHARE),
    "kl": ("KL from the reference policy", NUMBER),
    "completion_tokens": ("completion length, tokens", NUMBER),
    "equal_groups": ("groups of equal rewards", SHARE),
    "accuracy": ("pairs ranked right", SHARE),
    "margin": ("margin, chosen − rejected", NUMBER),
}
"""The title and the unit of each quantity that is drawn if the journal has it, in the order of the charts."""

Point = tuple[int, float | None]
"""A step and its value; None where it is not finite."""


@dataclass(frozen=True)
class Curve:
    """A chart of one quantity."""

    title: str
    steps: int
    """The number of steps."""
    x: Axis | None
    """The axis of the step; None if no value is finite."""
    y: Axis | None
    """The axis of the quantity; None if no value is finite."""
    lines: list[list[Position]]
    """The values as lines, which break where one is missing."""
    mean: list[list[Position]]
    """The running mean as lines; empty for few steps."""


def curves(events: Sequence[Event]) -> list[Curve]:
    """A curve for every quantity that the journal's steps name."""
    # A resumed training repeats steps: the last event of a step counts.
    steps = sorted({event["step"]: event for event in events if event["event"] == "step"}.items())
    points = {name: [(step, _finite(event.get(name))) for step, event in steps if name in event] for name in QUANTITIES}
    if _are_close(points["score"], points["reward"]):  # the verifier is the reward
        del points["score"]
    if points["reward"] and all(abs(value or 0) < ROUNDING for _, value in points["loss"]):
        del points["loss"]
    return [curve(*QUANTITIES[name], values) for name, values in points.items() if values]


def curve(title: str, unit: Unit, points: Sequence[Point]) -> Curve:
    """The chart of points in the order of their steps."""
    values = [value for _, value in points if value is not None]
    if not values:
        return Curve(title, len(points), None, None, [], [])
    y = axes.linear(values, (BOTTOM, TOP), unit)
    last = points[-1][0]
    x = Axis(0, last or 1, LEFT, RIGHT, False, sorted({0, last}), lambda step: f"{step:,.0f}")
    mean = _lines(_running_mean(points), x, y) if len(points) >= SMOOTHED else []
    return Curve(title, len(points), x, y, _lines(points, x, y), mean)


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
