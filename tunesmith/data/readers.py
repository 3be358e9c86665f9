"""Find the files of a data set, and read rows from JSON, CSV and Parquet, plain or compressed (gzip, Zstandard).

A bad row does not end the reading: it becomes a `Problem` with its line and reason. A file is read in blocks, and JSON
lines are parsed block by block, which another process may do.
"""

import codecs
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import DataError
from tunesmith.data.formats import json_rows, kinds, tables
from tunesmith.data.records import Block, Lines, Problem, Record

EMPTY = "put at least one row in it, or name another file"
NAMED = 10
"""Number of files that a message names."""


@dataclass(frozen=True)
class Files:
    """The files of a data set."""

    name: str
    """What messages call them: a path, a pattern, or a place on the hub."""
    folder: Path
    """Folder that their names are relative to."""
    paths: tuple[Path, ...]
    """In the order in which they are read: that of their paths below the folder."""
    ignored: tuple[Path, ...] = ()
    """What else is below the folder: files of other formats, hidden ones, and links to folders."""

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of all files, in blocks. Raises DataError as `blocks` does."""
        return itertools.chain.from_iterable(map(blocks, self.paths))

    def relative(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()

    def listed(self, files: Sequence[Path]) -> str:
        """Return the first names as a list."""
        more = f" and {len(files) - NAMED:,} more" if len(files) > NAMED else ""
        return ", ".join(map(self.relative, files[:NAMED])) + more

    def place(self, file: Path, line: int) -> str:
        """Return the line, with its file where there are several."""
        return f"line {line}" if len(self.paths) == 1 else f"line {line} of {self.relative(file)}"


def split_pattern(text: str) -> tuple[Path, str | None]:
    """Split chat/2024-*.jsonl into its folder and the pattern within; a path without a pattern has None."""
    path = Path(text)
    first = next((place for place, part in enumerate(path.parts) if re.search(r"[*?\[]", part)), None)
    if first is None or path.exists():
        return path, None
    return Path(*path.parts[:first]), "/".join(path.parts[first:])


def find(path: Path, pattern: str | None = None) -> Files:
    """Return ``path`` itself, or where it is a folder, the files `below` it. Raises DataError where there is none."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", fix="put it there, or correct the path")
    if path.is_dir():
        files = below(path, pattern)
        if not files.paths:
            there = f"only {files.listed(files.ignored)}" if files.ignored else "the folder is empty"
            raise DataError(f"{files.name}: no file of rows, {there}", fix=f"use one of {FORMATS}")
        return files
    if pattern is not None:
        raise DataError(f"{path}: a file, not a folder in which {pattern} could be", fix="take `files` out")
    return Files(str(path), path.parent, (path,))


def below(folder: Path, pattern: str | None = None) -> Files:
    """Return the files below a folder: all of a known format, or those that match a pattern.

    What is hidden, or behind a link to a folder, is ignored: DVC sees no change of the latter.
    """
    there = {path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    matching = {path for path in there if has_known_format(path)} if pattern is None else {*folder.glob(pattern)}
    hidden = {path for path in there if any(part.startswith(".") for part in path.relative_to(folder).parts)}
    paths = {path for path in (there & matching) - hidden if not path.is_dir()}
    return Files(str(folder / (pattern or "")), folder, tuple(sorted(paths)), tuple(sorted(there - paths)))


def read(path: Path) -> Iterator[Record | Problem]:
    """Yield every row of ``path``, in order. Raises DataError as `blocks` does."""
    for block in blocks(path):
        yield from parse(block)


def blocks(path: Path) -> Iterator[Block]:
    """Yield ``path`` in blocks of about 256 KiB, or at most 500 rows. Its beginning gives the format and compression.

    Raises DataError where the file is absent, empty, damaged, of another format, or not parseable as a whole.
    """
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a file", fix="name a file in it")
    if not has_known_format(path):
        raise DataError(f"{path}: unknown format {_suffix(path)!r}", fix=f"use one of {FORMATS}")
    try:
        with kinds.opened(path) as file:
            start = file.peek(kinds.SAMPLE)[: kinds.SAMPLE]
            if not start:
                raise DataError(f"{path}: the file is empty", fix=EMPTY)
            kinds.check_rows(path, start)
            if start.startswith(kinds.PARQUET):
                yield from tables.read_parquet(path, file)
                return
            text = kinds.in_utf8(path, file)
            kind = kinds.text_format(text.peek(kinds.SAMPLE)[: kinds.SAMPLE], _suffix(path))
            yield from READERS[kind](path, text)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", fix="correct the path") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # An OSError without a number is how pyarrow reports damaged data.
        raise DataError(f"{path}: the file is damaged: {error}", fix="compress or download it again") from None


def parse(block: Block) -> Iterable[Record | Problem]:
    """Return the rows of a block."""
    return json_rows.parse(block) if isinstance(block, Lines) else block


def starts_with_bom(path: Path) -> bool:
    """Tell whether the file begins with a UTF-8 byte order mark, which the readers skip."""
    with kinds.opened(path) as file:
        return file.peek(3)[:3] == codecs.BOM_UTF8


def has_known_format(path: Path) -> bool:
    """Tell whether the name ends like that of a file that can be read."""
    return _suffix(path) in READERS


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in kinds.SUFFIXES else path.suffix


READERS: dict[str, Callable[[Path, io.BufferedReader], Iterator[Block]]] = {
    ".jsonl": json_rows.read,
    ".json": json_rows.read,
    ".ndjson": json_rows.read,
    ".csv": tables.read_csv,
    ".tsv": tables.read_csv,
    ".parquet": tables.read_parquet,
}
FORMATS = f"{', '.join(READERS)}, each also followed by {' or '.join(kinds.SUFFIXES)}"
