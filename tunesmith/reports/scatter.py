"""Quality against a cost as a scatter plot: every model a point with its interval, the Pareto front a step line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tunesmith.core import formatting
from tunesmith.reports import axes
from tunesmith.reports.axes import BYTES, SECONDS, SHARE, Axis, Box, Label, Place, Unit

WIDTH, HEIGHT = 360, 290
"""Size of a plot, in SVG units."""
NOTHING, BREAK, LEFT, RIGHT, TOP, BOTTOM = 56, 72, 92, 334, 12, 248
"""x of what costs nothing and of the break after it (a logarithmic axis has no zero); the drawing area."""
WIDE = 5
"""Costs that span more than this factor are drawn on a logarithmic axis."""

UNITS: dict[str, tuple[str, Unit]] = {
    "seconds": ("training time", SECONDS),
    "memory": ("peak memory", BYTES),
    "size": ("artifact size", BYTES),
}
"""The costs of a comparison, as they are shown."""


@dataclass(frozen=True)
class Point:
    """A model. high, low: y of the ends of its interval. title: its numbers."""

    x: float
    y: float
    high: float
    low: float
    optimal: bool
    title: str
    label: Label


@dataclass(frozen=True)
class Scatter:
    """x: None where nothing cost anything. front: an SVG path. missing: models whose cost is not known."""

    title: str
    x: Axis | None
    y: Axis
    points: list[Point]
    front: str
    missing: list[str]


def scatter(comparison: dict[str, Any], cost: str) -> Scatter:
    """The plot of the score against ``cost``, one of UNITS."""
    title, unit = UNITS[cost]
    models = {name: model for name, model in comparison["models"].items() if model["cost"][cost] is not None}
    x = _cost_axis([model["cost"][cost] for model in models.values() if model["cost"][cost] > 0], unit)
    y = axes.linear([model[end] for model in models.values() for end in ("low", "high")], (BOTTOM, TOP), SHARE)
    at = {
        name: (x.at(model["cost"][cost]) if x and model["cost"][cost] > 0 else NOTHING, y.at(model["score"]))
        for name, model in models.items()
    }
    bars = [(at[name][0], y.at(model["high"]), y.at(model["low"])) for name, model in models.items()]
    front = [at[name] for name in comparison["pareto"][cost]]
    taken = [(left - 3, high, left + 3, low) for left, high, low in bars] + _along(front)
    labels = axes.place(at, taken, (NOTHING - 14, 0, WIDTH, BOTTOM))
    points = [
        Point(*at[name], high, low, name in comparison["pareto"][cost], _numbers(name, models[name], cost, unit), label)
        for (name, (_, high, low), label) in zip(models, bars, labels, strict=True)
    ]
    return Scatter(title, x, y, points, _path(front), [name for name in comparison["models"] if name not in models])


def _cost_axis(costs: Sequence[float], unit: Unit) -> Axis | None:
    if not costs:
        return None
    if max(costs) > WIDE * min(costs):
        return axes.logarithmic(costs, (LEFT, RIGHT), unit)
    # Costs that are all about the same must look it.
    return axes.linear([min(costs) * 0.9, max(costs) * 1.1], (LEFT, RIGHT), unit, zero=False, ticks=3)


def _path(front: Sequence[Place]) -> str:
    """The best score that a cost buys, as steps."""
    (x, y), *others = front
    return f"M{x} {y}" + "".join(f"H{x}V{y}" for x, y in others) + f"H{RIGHT}"


def _along(front: Sequence[Place]) -> list[Box]:
    """The steps as thin boxes."""
    corners = [*front, (RIGHT, front[-1][1])]
    boxes: list[Box] = []
    for (x, y), (next_x, next_y) in pairwise(corners):
        boxes += [(x, y - 1, next_x, y + 1), (next_x - 1, next_y, next_x + 1, y)]
    return boxes


def _numbers(name: str, model: Mapping[str, Any], cost: str, unit: Unit) -> str:
    score = f"{formatting.percent(model['score'])} [{100 * model['low']:.1f}, {100 * model['high']:.1f}]"
    return f"{name}: {score}, {(formatting.seconds if unit is SECONDS else formatting.size)(model['cost'][cost])}"
