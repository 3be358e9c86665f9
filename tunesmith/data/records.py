"""Rows of a raw file before they are recognised: records, problems, and blocks of both."""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import dumps

BLOCK_BYTES, BLOCK_ROWS = 2**18, 500

Place = tuple[Path, int]
"""The file and the line of a row."""
LONG = 2000
"""Characters of a text, or bytes, within which no image is looked for."""
ENCODED = re.compile(
    r"((?:data:[^,\"\s]{0,100};base64,|(?<=\")(?:/9j/|iVBORw0KGgo|UklGR))[\w+/%-]{40})[\w+/=\\%-]{1000,}", re.IGNORECASE
)
"""An image within a text, with how it begins."""
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
        """Return the row as text to show to people, without the bytes of images."""
        text = dumps(_without_bytes(self.fields)).decode() if self.raw is None else self.raw.decode().strip()
        if len(text) < LONG:
            return text
        return ENCODED.sub(lambda match: f"{match[1]}… ({len(match[0]):,} characters)", text)

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


class Remarked(NamedTuple):
    """Rows with the same remark."""

    rows: int
    file: Path
    line: int
    """Line of the first of them."""
    example: str
    """The text in which the remark holds, in the first of them."""

    def __add__(self, other: "Remarked") -> "Remarked":  # type: ignore[override]
        return self._replace(rows=self.rows + other.rows)


Block = Lines | list[Record | Problem]
"""Rows of one file; never empty."""


def file_of(block: Block) -> Path:
    """Return the file that the rows of a block are from."""
    return block.file if isinstance(block, Lines) else block[0].file


def _without_bytes(value: object) -> object:
    """Return a value with a note in place of long bytes, such as an image's."""
    if isinstance(value, bytes) and len(value) > LONG:
        return f"({len(value):,} bytes)"
    if isinstance(value, list):
        return list(map(_without_bytes, value))
    return {name: _without_bytes(part) for name, part in value.items()} if isinstance(value, dict) else value


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


def check_share(
    name: str, problems: list[Problem], good: int, most: float, not_bad: Container[str], *, system: bool = False
) -> None:
    """Raise DataError where no row of the files ``name`` is good, or more than a share of all is bad.

    most: the share, data.<dataset>.max_bad_share. not_bad: checks that set good rows aside. system: whether params give
    the rows a system message.
    """
    total = good + len(problems)
    bad = [problem for problem in problems if problem.check not in not_bad]
    if good and len(bad) <= most * total:
        return
    listed = bad or problems
    examples = "".join(f"\n  {problem.file}:{problem.line}: {problem.reason}" for problem in listed[:5])
    if len(listed) > 5:
        examples += f"\n  ... and {len(listed) - 5} more"
    if not good:
        fix = "correct those lines" if bad else "is this data in data.<dataset>.held_out.path, or a copy of it there?"
        if system and bad and all("chat template" in problem.reason for problem in bad):
            fix = "if the base's chat template takes no system message, remove data.<dataset>.system from params.yaml"
        raise DataError(f"{name}: not one of {total} rows is good:{examples}", fix=fix)
    raise DataError(
        f"{name}: {len(bad)} of {total} rows are bad, more than max_bad_share ({most:g}) allows:{examples}",
        fix="correct those lines, or raise data.<dataset>.max_bad_share in params.yaml to set them aside",
    )


def check_columns(source: str, columns: Iterable[tuple[str, ...]], named: set[str]) -> None:
    """Raise DataError where no row has a column that params name. columns: those of rows. named: those of params."""
    present = {name for names in columns for name in names}
    missing = sorted(named - present)
    if present and missing:
        raise DataError(
            f"{source}: no column {missing[0]!r}; there is {', '.join(map(repr, sorted(present)))}",
            fix="correct data.<dataset>.columns or .group in params.yaml; columns: null recognises common layouts",
        )
