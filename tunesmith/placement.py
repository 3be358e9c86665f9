"""Labels beside the points of a plot, so that they cover neither each other nor what is drawn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
