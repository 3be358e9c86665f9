"""A scatter plot of quality against a cost: every model is a point with its interval, the Pareto front a step line."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunesmith.core import formatting
from tunesmith.evaluation.documents import ComparedModel, Comparison, CostName
from tunesmith.reports import axes, sentences
from tunesmith.reports.axes import BYTES, NUMBER, SECONDS, SHARE, Axis, Box, Label, Position, Unit

WIDTH, HEIGHT = 360, 290
"""Size of a plot, in SVG units."""
LEFT, RIGHT, TOP, BOTTOM = 92, 334, 12, 248
"""Edges of the drawing area."""
NOTHING, BREAK = 56, 72
"""x of models that cost nothing, and of the break that sets them apart: a logarithmic axis has no zero."""
WIDE = 5
"""Costs that span more than this factor are drawn on a logarithmic axis."""

UNITS: dict[CostName, tuple[str, Unit]] = {
    "seconds": ("training time", SECONDS),
    "memory": ("peak memory", BYTES),
    "size": ("artifact size", BYTES),
}
"""The name and the unit of each cost of a comparison."""


@dataclass(frozen=True)
class Point:
    """A model in the plot."""

    x: float
    y: float
    high: float
    """y of the upper end of the score's interval."""
    low: float
    """y of the lower end of the score's interval."""
    optimal: bool
    """Whether the model is on the Pareto front."""
    title: str
    """The model's name, score and cost, for a tooltip."""
    label: Label


@dataclass(frozen=True)
class Scatter:
    """A plot."""

    title: str
    """The name of the cost."""
    x: Axis | None
    """The axis of the cost; None if every model costs nothing."""
    y: Axis
    """The axis of the score."""
    points: list[Point]
    front: str
    """The Pareto front as an SVG path."""
    missing: list[str]
    """Names of the models whose cost was not measured."""


def scatter(comparison: Comparison, cost: CostName) -> Scatter:
    """The plot of the score against ``cost``, one of UNITS."""
    title, unit = UNITS[cost]
    costs = {name: spent for name, model in comparison["models"].items() if (spent := model["cost"][cost]) is not None}
    models = {name: comparison["models"][name] for name in costs}
    x = _cost_axis([spent for spent in costs.values() if spent > 0], unit)
    share = sentences.ranking(comparison)["share"]
    ends = [end for model in models.values() for end in (model["low"], model["high"])]
    y = axes.linear(ends, (BOTTOM, TOP), SHARE if share else NUMBER)
    positions = {
        name: (x.at(costs[name]) if x and costs[name] > 0 else NOTHING, y.at(model["score"]))
        for name, model in models.items()
    }
    bars = [(positions[name][0], y.at(model["high"]), y.at(model["low"])) for name, model in models.items()]
    front = [positions[name] for name in comparison["pareto"][cost]]
    taken = [(left - 3, high, left + 3, low) for left, high, low in bars] + _boxes(front)
    labels = axes.place_labels(positions, taken, (NOTHING - 14, 0, WIDTH, BOTTOM))
    points = [
        Point(
            x=bar_x,
            y=positions[name][1],
            high=high,
            low=low,
            optimal=name in comparison["pareto"][cost],
            title=_title(name, models[name], cost, unit, share),
            label=label,
        )
        for name, (bar_x, high, low), label in zip(models, bars, labels, strict=True)
    ]
    missing = [name for name in comparison["models"] if name not in models]
    return Scatter(title, x, y, points, _path(front), missing)


def _cost_axis(costs: Sequence[float], unit: Unit) -> Axis | None:
    if not costs:
        return None
    if max(costs) > WIDE * min(costs):
        return axes.logarithmic(costs, (LEFT, RIGHT), unit)
    # Costs that are about the same must look about the same.
    return axes.linear([min(costs) * 0.9, max(costs) * 1.1], (LEFT, RIGHT), unit, zero=False, ticks=3)


def _path(front: Sequence[Position]) -> str:
    """The Pareto front as steps: the best score at each cost."""
    (x, y), *others = front
    return f"M{x} {y}" + "".join(f"H{x}V{y}" for x, y in others) + f"H{RIGHT}"


def _boxes(front: Sequence[Position]) -> list[Box]:
    """The steps of the front as thin boxes, which labels should not cover."""
    corners = [*front, (RIGHT, front[-1][1])]
    boxes: list[Box] = []
    for (x, y), (next_x, next_y) in pairwise(corners):
        boxes += [(x, y - 1, next_x, y + 1), (next_x - 1, next_y, next_x + 1, y)]
    return boxes


def _title(name: str, model: ComparedModel, cost: CostName, unit: Unit, share: bool) -> str:
    score = f"{formatting.score(model['score'], share)} [{formatting.interval(model['low'], model['high'], share)}]"
    return f"{name}: {score}, {(formatting.seconds if unit is SECONDS else formatting.size)(model['cost'][cost])}"
