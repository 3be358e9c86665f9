"""Axes and labels of charts drawn as inline SVG.

An axis maps values to positions and is labelled at round values; the labels of points are placed so that they do not
cover each other. All positions and sizes are in SVG units.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.core import formatting

DECIMAL = tuple(float(f"{digit}e{power}") for power in range(-12, 300) for digit in (1, 2, 5))
"""Round numbers, rising. Every third, from the first on, is a power of ten."""
TIME = tuple(
    [number * unit for unit in (1, 60) for number in (1, 2, 5, 10, 20, 30)]
    + [3600 * digit * 10**power for power in range(6) for digit in (1, 2, 5)]
)
"""Round seconds, minutes and hours, in seconds, rising."""
TICKS = 5
"""About the number of labels of an axis."""
LETTER = 7.2
"""Width of a letter of a label: the widest that system fonts have."""
LINE, GAP = 14, 9
"""Height of a label, and its distance from the middle of its point."""
MARK = 6
"""Radius of a point with its outline."""

Position = tuple[float, float]
"""x and y."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


@dataclass(frozen=True)
class Tick:
    """A label of an axis, centred at ``at``."""

    at: float
    label: str

    @property
    def left(self) -> float:
        return self.at - LETTER * len(self.label) / 2

    @property
    def right(self) -> float:
        return self.at + LETTER * len(self.label) / 2


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` at positions from ``start`` to ``end``, labelled at ``marks``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    marks: list[float]
    label: Callable[[float], str]

    def at(self, value: float) -> float:
        """The position of a value."""
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """A tick for every mark; on a horizontal axis, without those whose labels would touch the one before."""
        ticks: list[Tick] = []
        for tick in (Tick(self.at(mark), self.label(mark)) for mark in self.marks):
            is_horizontal = self.start < self.end  # a vertical axis runs upwards, so its positions fall
            if not is_horizontal or not ticks or tick.left > ticks[-1].right + LETTER:
                ticks.append(tick)
        return ticks


@dataclass(frozen=True)
class Unit:
    """The round values at which an axis may be labelled, rising, and the text of a label."""

    round_values: Sequence[float]
    label: Callable[[float], str]


def linear(
    values: Sequence[float], pixels: tuple[float, float], unit: Unit, *, zero: bool = True, ticks: int = TICKS
) -> Axis:
    """An axis over all values that ends at round ones. zero: include 0, unless that would squeeze the values."""
    low, high = min(values), max(values)
    if zero and not 1e-9 < high - low < 0.25 * max(abs(low), abs(high)):
        low, high = min(low, 0), max(high, 0)
    if high - low < 1e-9:
        low, high = (low, low + 1) if abs(low) < 1e-9 else (low - abs(low) / 2, low + abs(low) / 2)
    step = next(number for number in unit.round_values if (high - low) / number <= ticks)
    # Rounding errors of the division must not add a step at the ends.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [step * index for index in range(first, last + 1)]
    return Axis(marks[0], marks[-1], *pixels, False, marks, unit.label)


def logarithmic(values: Sequence[float], pixels: tuple[float, float], unit: Unit) -> Axis:
    """A logarithmic axis over positive values, with room at both ends."""
    low, high = min(values) / 1.2, max(values) * 1.2
    for stride in (1, 3, 6, 9):
        marks = [number for number in unit.round_values[::stride] if low <= number <= high]
        if len(marks) <= TICKS:
            break
    return Axis(low, high, *pixels, True, marks, unit.label)


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:g}%"


def _seconds(value: float) -> str:
    return formatting.seconds(value).removesuffix(" 00s").removesuffix(" 00m")


def _size(value: float) -> str:
    number, name = formatting.size(value).split(" ")
    return f"{float(number):g} {name}"


NUMBER, SHARE = Unit(DECIMAL, _plain), Unit(DECIMAL, _percent)
SECONDS, BYTES = Unit(TIME, _seconds), Unit([number for number in DECIMAL if number >= 1], _size)


def scores(ends: Sequence[float], pixels: tuple[float, float], *, share: bool) -> Axis:
    """An axis of scores: of shares from 0 to 100%, of others over the ends of all intervals."""
    if not share:
        return linear(ends, pixels, NUMBER, zero=False)
    return Axis(0, 1, *pixels, False, [0, 0.25, 0.5, 0.75, 1], _percent)


@dataclass(frozen=True)
class Label:
    """The label of a point."""

    text: str
    x: float
    """The end of the text that its anchor names."""
    y: float
    """The middle of the text."""
    anchor: str
    """SVG's text-anchor: start or end."""
    moved: bool
    """Whether it stands so far from its point that a line must connect them."""

    @property
    def box(self) -> Box:
        """The area that the text covers."""
        width = LETTER * len(self.text)
        left = self.x if self.anchor == "start" else self.x - width
        return (left, self.y - LINE / 2, left + width, self.y + LINE / 2)


def place_labels(points: Mapping[str, Position], taken: Sequence[Box], bounds: Box) -> list[Label]:
    """A label for every point, in their order: near its point, inside the bounds, over little else.

    points: name -> position. taken: areas that labels should not cover.
    """
    boxes = [*taken, *((x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points.values())]
    labels: dict[str, Label] = {}

    def cost(label: Label) -> float:
        moved = abs(label.y - points[label.text][1])
        is_inside = overlap(label.box, bounds) > 0.99 * overlap(label.box, label.box)
        return moved + sum(overlap(label.box, box) for box in boxes) + (0 if is_inside else 1e4)

    for name in sorted(points, key=lambda name: points[name][1]):
        labels[name] = min(_candidates(name, points[name]), key=cost)
        boxes.append(labels[name].box)
    return [labels[name] for name in points]


def overlap(first: Box, second: Box) -> float:
    """The area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _candidates(name: str, point: Position) -> Iterator[Label]:
    """Labels to the right and the left of a point: level with it, then above and below."""
    x, y = point
    for lines in (0, -1, 1, -2, 2, -3, 3, -4, 4):
        for anchor, side in (("start", GAP), ("end", -GAP)):
            yield Label(name, round(x + side, 1), round(y + lines * LINE, 1), anchor, moved=abs(lines) > 1)
