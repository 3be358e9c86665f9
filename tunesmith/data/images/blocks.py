"""Blocks of rows with images, which take long to check and are shared out in small pieces."""

from collections.abc import Iterable, Iterator

from tunesmith.data.columns.names import IMAGES
from tunesmith.data.records import Block, Lines, Record

ROWS = 16
"""Rows of a piece; an image takes some milliseconds to two seconds."""


def spread(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the same rows in the same order, blocks in which images are named cut into pieces."""
    for block in blocks:
        if isinstance(block, Lines):
            yield from _pieces(block) if b'"image' in block.data else [block]
        elif any(isinstance(row, Record) and not row.fields.keys().isdisjoint(IMAGES) for row in block[:1]):
            yield from (block[start : start + ROWS] for start in range(0, len(block), ROWS))
        else:
            yield block


def _pieces(block: Lines) -> Iterator[Lines]:
    *whole, rest = block.data.split(b"\n")
    lines = [line + b"\n" for line in whole] + ([rest] if rest else [])
    for start in range(0, len(lines), ROWS):
        yield Lines(block.file, block.first + start, b"".join(lines[start : start + ROWS]))
