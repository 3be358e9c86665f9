"""What a training's journal says step by step, as small charts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.core.journal import Event
from tunesmith.reports import axes
from tunesmith.reports.axes import NUMBER, SHARE, Axis, Unit

WIDTH, HEIGHT = 260, 130
"""Size of a chart, in SVG units."""
LEFT, RIGHT, TOP, BOTTOM = 42, 248, 12, 104
"""Its drawing area."""
ROUNDING = 1e-4
"""The loss of RLOO on its own policy's answers is 0 but for this."""
SMOOTHED = 20
"""From this many steps on, single steps are noise: a running mean is drawn over them."""

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
"""What is drawn where the journal has it: its name and unit, in the order of the charts."""

Point = tuple[int, float | None]
"""A step and its value; None where it is not finite."""
Place = tuple[float, float]
"""x and y, in SVG units."""


@dataclass(frozen=True)
class Curve:
    """A chart of one quantity: lines are broken where a value is missing; x and y are None where all are."""

    title: str
    steps: int
    x: Axis | None
    y: Axis | None
    lines: list[list[Place]]
    mean: list[list[Place]]


def curves(events: Sequence[Event]) -> list[Curve]:
    """A curve for every quantity that the journal's steps name."""
    # A resumed training repeats steps; the last word counts.
    steps = sorted({event["step"]: event for event in events if event["event"] == "step"}.items())
    points = {name: [(step, _finite(event[name])) for step, event in steps if name in event] for name in QUANTITIES}
    if _alike(points["score"], points["reward"]):  # the verifier is the reward
        del points["score"]
    if points["reward"] and all(abs(value or 0) < ROUNDING for _, value in points["loss"]):
        del points["loss"]
    return [curve(*QUANTITIES[name], drawn) for name, drawn in points.items() if drawn]


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


def _lines(points: Sequence[Point], x: Axis, y: Axis) -> list[list[Place]]:
    """Runs of values with none missing between them."""
    lines: list[list[Place]] = [[]]
    for step, value in points:
        if value is not None:
            lines[-1].append((x.at(step), y.at(value)))
        elif lines[-1]:
            lines.append([])
    return [line for line in lines if line]


def _running_mean(points: Sequence[Point]) -> list[Point]:
    """Each value as the mean of a tenth of all steps around it; missing ones stay missing."""
    reach = len(points) // 20
    smooth: list[Point] = []
    for index, (step, value) in enumerate(points):
        around = [near for _, near in points[max(0, index - reach) : index + reach + 1] if near is not None]
        smooth.append((step, None if value is None else sum(around) / len(around)))
    return smooth


def _alike(one: Sequence[Point], other: Sequence[Point]) -> bool:
    """Whether two curves are the same, up to rounding."""
    return len(one) == len(other) and all(
        step == other_step and (value is None) == (twin is None) and math.isclose(value or 0, twin or 0, rel_tol=1e-3)
        for (step, value), (other_step, twin) in zip(one, other, strict=True)
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
