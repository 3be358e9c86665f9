"""Rows as they stand in a file, good or bad, and blocks of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tunesmith.core.ready_rows import dumps

BLOCK_BYTES, BLOCK_ROWS = 2**18, 500


@dataclass(slots=True)
class Record:
    """A row as it stands in the file.

    line: 1-based line in a text file (where the row begins); 1-based position in JSON arrays and Parquet.
    raw: the bytes of the line, where the row is one.
    """

    line: int
    fields: dict[str, Any]
    raw: bytes | None = field(default=None, compare=False, repr=False)

    def text(self) -> str:
        """The row as text, for people."""
        if self.raw is not None:
            return self.raw.decode().strip()
        return dumps(self.fields).decode()


@dataclass(slots=True)
class Problem:
    """A row that cannot be used, where it stands, why (``check: what was found``), and its text."""

    line: int
    reason: str
    raw: str

    @property
    def check(self) -> str:
        """The name of the check that found it: the reason up to its colon."""
        return self.reason.split(":")[0]


@dataclass(slots=True)
class Lines:
    """A block of whole JSON lines, not parsed yet. first: the number of its first line."""

    first: int
    data: bytes


Block = Lines | list[Record | Problem]


def in_blocks(rows: Iterator[Record | Problem]) -> Iterator[Block]:
    """Blocks of so many rows, or of so much text."""
    block: list[Record | Problem] = []
    size = 0
    for row in rows:
        block.append(row)
        if isinstance(row, Record):
            size += sum(len(value) for value in row.fields.values() if isinstance(value, str))
        if len(block) == BLOCK_ROWS or size > BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
