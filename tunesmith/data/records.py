"""Rows of a raw file before they are recognised: records, problems, and blocks of both."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tunesmith.core.ready_rows import dumps

BLOCK_BYTES, BLOCK_ROWS = 2**18, 500

Place = tuple[Path, int]
"""The file and the line of a row."""
Fields = dict[str, object]
"""The columns of one row, each with its value as the file holds it."""


class RowError(Exception):
    """A row cannot be used; the text is the name of the check, a colon, and the finding."""


@dataclass(slots=True)
class Record:
    """A row as the file holds it."""

    file: Path
    line: int
    """Position of the row, from 1: the line where it begins in a text file, its index in a JSON array or Parquet."""
    fields: Fields
    raw: bytes | None = field(default=None, compare=False, repr=False)
    """Bytes of the line, where the row is one line."""
    table: bool = field(default=False, compare=False, repr=False)
    """Whether it is a row of a CSV, in which words stand for missing values."""
    remarks: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    """What was read otherwise than written, each with an example."""

    def text(self) -> str:
        """Return the row as text to show to people."""
        if self.raw is not None:
            return self.raw.decode().strip()
        return dumps(self.fields).decode()

    def problem(self, reason: str, repeated: "Place | None" = None) -> "Problem":
        """Make the problem that sets this row aside."""
        return Problem(self.file, self.line, reason, self.text(), repeated)


@dataclass(slots=True)
class Problem:
    """A row that cannot be used."""

    file: Path
    line: int
    """Position of the row, as in `Record`."""
    reason: str
    """Why the row cannot be used: the name of the check, a colon, and the finding."""
    raw: str
    """Text of the row."""
    repeated: "Place | None" = None
    """The row that it repeats, where it was set aside for that."""

    @property
    def check(self) -> str:
        """Name of the check that found the problem: the reason up to its colon."""
        return self.reason.split(":")[0]


class Repeat(NamedTuple):
    """Why the comparison of a row with others sets it aside."""

    reason: str
    of: int | None = None
    """Position of the row that it repeats; None where it contradicts one."""


@dataclass(slots=True)
class Lines:
    """A block of whole JSON lines that are not parsed yet."""

    file: Path
    first: int
    """Number of the first line, from 1."""
    data: bytes


Block = Lines | list[Record | Problem]
"""Rows of one file; never empty."""


def file_of(block: Block) -> Path:
    """Return the file that the rows of a block are from."""
    return block.file if isinstance(block, Lines) else block[0].file


def in_blocks(rows: Iterator[Record | Problem]) -> Iterator[Block]:
    """Group rows into blocks of BLOCK_ROWS, or fewer where their text exceeds BLOCK_BYTES."""
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
