"""Axes of charts drawn as inline SVG: where a value lies, and the round values that label it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.core import formatting

DECIMAL = tuple(float(f"{digit}e{power}") for power in range(-12, 300) for digit in (1, 2, 5))
"""Round numbers, rising. Every third, from the first on, are the roundest."""
TIME = tuple(
    [number * unit for unit in (1, 60) for number in (1, 2, 5, 10, 20, 30)]
    + [3600 * digit * 10**power for power in range(6) for digit in (1, 2, 5)]
)
"""Round seconds, minutes and hours, in seconds; in the same order."""

TICKS = 5
"""About how many labels an axis bears up its side."""
LETTER = 7.2
"""Width of a letter of a label, in SVG units."""


@dataclass(frozen=True)
class Tick:
    """A label in the middle of which is ``at``."""

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
    """Values from ``low`` to ``high`` on SVG units from ``start`` to ``end``; ``marks`` are labelled with ``label``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    marks: list[float]
    label: Callable[[float], str]

    def at(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """A tick a mark; where labels side by side would touch, as many as there is room for."""
        ticks: list[Tick] = []
        for tick in (Tick(self.at(mark), self.label(mark)) for mark in self.marks):
            across = self.start < self.end  # up an axis, every label has a line to itself
            if not across or not ticks or tick.left > ticks[-1].right + LETTER:
                ticks.append(tick)
        return ticks


@dataclass(frozen=True)
class Unit:
    """How an axis counts: the values it may label, rising, and how it writes them."""

    rounds: Sequence[float]
    label: Callable[[float], str]


def linear(
    values: Sequence[float], pixels: tuple[float, float], unit: Unit, *, zero: bool = True, ticks: int = TICKS
) -> Axis:
    """An axis over all values that ends in round ones; with zero, if asked, where values keep room to differ."""
    low, high = min(values), max(values)
    if zero and not 1e-9 < high - low < 0.25 * max(abs(low), abs(high)):
        low, high = min(low, 0), max(high, 0)
    if high - low < 1e-9:
        low, high = low - 0.5 * unit.rounds[0], high + 0.5 * unit.rounds[0]
    step = next(number for number in unit.rounds if (high - low) / number <= ticks)
    # Rounding errors of a division must not add a step at the ends.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [step * index for index in range(first, last + 1)]
    return Axis(marks[0], marks[-1], *pixels, False, marks, unit.label)


def logarithmic(values: Sequence[float], pixels: tuple[float, float], unit: Unit) -> Axis:
    """A logarithmic axis over all values, which are positive, with room at both ends."""
    low, high = min(values) / 1.2, max(values) * 1.2
    for stride in (1, 3, 6, 9):
        marks = [number for number in unit.rounds[::stride] if low <= number <= high]
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


Place = tuple[float, float]
"""x and y, in SVG units."""
Box = tuple[float, float, float, float]
"""left, top, right, bottom"""

LINE, LETTER, GAP = 14, 7.2, 9
"""Height of a label, width of a letter (the widest that system fonts have), and distance from the point's middle."""
MARK = 6
"""Radius of a point with its outline."""


@dataclass(frozen=True)
class Label:
    """anchor: as in SVG. y: the middle of the text. moved: far enough from its point that a line must show which."""

    text: str
    x: float
    y: float
    anchor: str
    moved: bool

    @property
    def box(self) -> Box:
        width = LETTER * len(self.text)
        left = self.x if self.anchor == "start" else self.x - width
        return (left, self.y - LINE / 2, left + width, self.y + LINE / 2)


def place(points: Mapping[str, Place], taken: Sequence[Box], bounds: Box) -> list[Label]:
    """A label for every point, in their order: the nearest that covers least of ``taken``, points and other labels."""
    boxes = [*taken, *((x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points.values())]
    labels: dict[str, Label] = {}

    def cost(label: Label) -> float:
        moved = abs(label.y - points[label.text][1])
        inside = shared(label.box, bounds) > 0.99 * shared(label.box, label.box)
        return moved + sum(shared(label.box, box) for box in boxes) + (0 if inside else 1e4)

    for name in sorted(points, key=lambda name: points[name][1]):
        labels[name] = min(_around(name, points[name]), key=cost)
        boxes.append(labels[name].box)
    return [labels[name] for name in points]


def shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _around(name: str, point: Place) -> Iterator[Label]:
    """Right and left of a point, level with it first, then above and below."""
    x, y = point
    for lines in (0, -1, 1, -2, 2, -3, 3, -4, 4):
        for anchor, side in (("start", GAP), ("end", -GAP)):
            yield Label(name, round(x + side, 1), round(y + lines * LINE, 1), anchor, moved=abs(lines) > 1)
