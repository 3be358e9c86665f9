"""Find the files of a data set, and read rows from JSONL, JSON, CSV and Parquet, plain or compressed (gzip, Zstandard).

A bad row does not end the reading: it becomes a `Problem` with its line and reason. A file is read in blocks, and JSON
lines are parsed block by block, which another process may do.
"""

import codecs
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jiter
import pyarrow as pa

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import dumps
from tunesmith.data import tables
from tunesmith.data.records import BLOCK_BYTES, Block, Lines, Problem, Record, in_blocks

EMPTY = "put at least one row in it, or name another file"
LONGEST_LINE = 2**24
"""Longest line that is read, in bytes. No training context holds more; a longer line is a file without line breaks."""
LARGEST_LIST = 2**30
"""Largest list of a .json file, in decompressed bytes; parsing it takes some times as much memory."""
KEPT = 1000
"""Bytes quoted of a line that is too long."""
NOT_AN_OBJECT = "not a JSON object: a row is written { … }"
NAMED = 10
"""Number of files that a message names."""
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


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
    """Yield ``path`` in blocks of about 256 KiB, or at most 500 rows; its suffix gives the format and the compression.

    Raises DataError where the file is absent, empty, damaged, of another format, or not parseable as a whole.
    """
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a file", fix="name a file in it")
    if not has_known_format(path):
        raise DataError(f"{path}: unknown format {_suffix(path)!r}", fix=f"use one of {FORMATS}")
    try:
        with _open(path) as file:
            start = file.peek(4)[:4]
            if not start:
                raise DataError(f"{path}: the file is empty", fix=EMPTY)
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise DataError(f"{path}: UTF-16, not UTF-8", fix="save the file as UTF-8")
            yield from READERS[_suffix(path)](path, file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", fix="correct the path") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # An OSError without a number is how pyarrow reports damaged data.
        raise DataError(f"{path}: the file is damaged: {error}", fix="compress or download it again") from None


def parse(block: Block) -> Iterable[Record | Problem]:
    """Return the rows of a block."""
    return _parse_lines(block) if isinstance(block, Lines) else block


def starts_with_bom(path: Path) -> bool:
    """Tell whether the file begins with a UTF-8 byte order mark, which the readers skip."""
    with _open(path) as file:
        return file.peek(3)[:3] == codecs.BOM_UTF8


def has_known_format(path: Path) -> bool:
    """Tell whether the name ends like that of a file that can be read."""
    return _suffix(path) in READERS


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read its decompressed bytes. A truncated compressed file raises OSError at its end."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: a pipe or a device, not a file", fix="write its rows into a file, and name that")
    with path.open("rb") as file:
        if path.suffix not in COMPRESSED:
            yield file
        else:
            with pa.CompressedInputStream(file, COMPRESSED[path.suffix]) as plain:
                yield io.BufferedReader(plain, BLOCK_BYTES)


def _read_jsonl(path: Path, file: io.BufferedReader, rest: bytes = b"") -> Iterator[Block]:
    """Read JSON lines; ``rest`` is what was read of them already."""
    line = 1
    if not rest and file.peek(3)[:3] == codecs.BOM_UTF8:
        file.read(3)
    while chunk := file.read(BLOCK_BYTES):
        rest += chunk
        cut = rest.rfind(b"\n") + 1
        if cut:
            yield Lines(path, line, rest[:cut])
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        elif len(rest) > LONGEST_LINE:
            yield [_too_long(path, line, rest)]
            rest, line = _skip_line(file), line + 1
    if rest:
        yield Lines(path, line, rest)


def _skip_line(file: io.BufferedReader) -> bytes:
    """Read to the end of the line, and return the bytes already read of the next line."""
    while chunk := file.read(BLOCK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[end + 1 :]
    return b""


def _parse_lines(block: Lines) -> list[Record | Problem]:
    rows: list[Record | Problem] = []
    file, from_json, long = block.file, jiter.from_json, len(block.data) > LONGEST_LINE
    for number, line in enumerate(block.data.split(b"\n"), start=block.first):
        try:
            fields = from_json(line, catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as error:
            if line.strip():
                rows.append(_diagnose(file, number, line, str(error)))
            continue
        if long and len(line) > LONGEST_LINE:
            rows.append(_too_long(file, number, line))
        elif isinstance(fields, dict):
            rows.append(Record(file, number, fields, line))
        else:
            rows.append(Problem(file, number, NOT_AN_OBJECT, line.decode().strip()))
    return rows


def _too_long(file: Path, number: int, line: bytes) -> Problem:
    reason = f"line too long: over {LONGEST_LINE:,} bytes; does the file have line breaks?"
    return Problem(file, number, reason, line[:KEPT].decode(errors="replace") + "…")


def _diagnose(file: Path, number: int, line: bytes, error: str) -> Problem:
    """Return the most precise reason why a line is not JSON."""
    raw = line.decode(errors="replace").strip()
    if len(line) > LONGEST_LINE:
        return _too_long(file, number, line)
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return Problem(file, number, f"not UTF-8: byte 0x{line[wrong.start]:02x} at column {wrong.start + 1}", raw)
    if line.startswith(codecs.BOM_UTF8):
        return Problem(file, number, "byte order mark: within the file; were files joined?", raw)
    if b"\0" in line:
        return Problem(file, number, f"NUL byte: at column {line.index(0) + 1}", raw)
    message = error.replace(" at line 1 column ", " at column ")
    if message.startswith("Detected duplicate key "):
        return Problem(file, number, "duplicate key: " + message.removeprefix("Detected duplicate key "), raw)
    return Problem(file, number, f"not JSON: {message}", raw)


def _read_json(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    """Read one JSON list of rows, held in memory as a whole; or JSON lines, which many a file of that name holds."""
    start = file.readline(LONGEST_LINE).removeprefix(codecs.BOM_UTF8)
    if _is_object(start) and file.peek(1):
        yield from _read_jsonl(path, file, start)
        return
    data = start + file.read(LARGEST_LIST)
    if file.peek(1):
        raise DataError(
            f"{path}: a list of more than {LARGEST_LIST:,} bytes, which would be held in memory as a whole",
            fix="write each row into a line of its own, in a file .jsonl",
        )
    try:
        values = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        rows = _elements(path, data, str(error))
    else:
        if not isinstance(values, list):
            raise DataError(f"{path}: not a list of rows", fix="wrap the rows in [ ], or use .jsonl")
        rows = (_element(path, position, value) for position, value in enumerate(values, start=1))
    yield from in_blocks(rows)


def _elements(path: Path, data: bytes, error: str) -> Iterator[Record | Problem]:
    """Parse each row of a malformed list by itself, so that a bad row does not take the others with it.

    Raises DataError where the end of a row cannot be found.
    """
    try:
        text, decoder = data.decode(), json.JSONDecoder()
        start = text.index("[") + 1
        for position in itertools.count(1):
            while text[start] in " \t\r\n,":
                start += 1
            if text[start] == "]":
                return
            _, end = decoder.raw_decode(text, start)
            yield from _parse_lines(Lines(path, position, text[start:end].replace("\n", " ").encode()))
            start = end
    except (ValueError, IndexError, RecursionError):
        fix = "correct that place; a file with one object a line is named .jsonl"
        raise DataError(f"{path}: not JSON: {error}", fix=fix) from None


def _is_object(text: bytes) -> bool:
    try:
        return text.lstrip().startswith(b"{") and isinstance(jiter.from_json(text), dict)
    except ValueError:
        return False


def _element(path: Path, position: int, value: object) -> Record | Problem:
    if isinstance(value, dict):
        return Record(path, position, value)
    return Problem(path, position, NOT_AN_OBJECT, dumps(value).decode())


READERS: dict[str, Callable[[Path, io.BufferedReader], Iterator[Block]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": tables.read_csv,
    ".parquet": tables.read_parquet,
}
FORMATS = f"{', '.join(READERS)}, each also followed by {' or '.join(COMPRESSED)}"
