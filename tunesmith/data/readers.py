"""Read rows from JSONL, JSON, CSV and Parquet, plain or compressed with gzip or Zstandard.

A bad row does not end the reading: it becomes a `Problem` with its line and reason. A file is read in blocks, and JSON
lines are parsed block by block, which another process may do.
"""

import codecs
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
KEPT = 1000
"""Bytes quoted of a line that is too long."""
NOT_AN_OBJECT = "not a JSON object: a row is written { … }"
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


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
        formats = f"{', '.join(READERS)}, each also followed by {' or '.join(COMPRESSED)}"
        raise DataError(f"{path}: unknown format {_suffix(path)!r}", fix=f"use one of {formats}")
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
    with path.open("rb") as file:
        if path.suffix not in COMPRESSED:
            yield file
        else:
            with pa.CompressedInputStream(file, COMPRESSED[path.suffix]) as plain:
                yield io.BufferedReader(plain, BLOCK_BYTES)


def _read_jsonl(_path: Path, file: io.BufferedReader) -> Iterator[Block]:
    line, rest = 1, b""
    if file.peek(3)[:3] == codecs.BOM_UTF8:
        file.read(3)
    while chunk := file.read(BLOCK_BYTES):
        rest += chunk
        cut = rest.rfind(b"\n") + 1
        if cut:
            yield Lines(line, rest[:cut])
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        elif len(rest) > LONGEST_LINE:
            yield [_too_long(line, rest)]
            rest, line = _skip_line(file), line + 1
    if rest:
        yield Lines(line, rest)


def _skip_line(file: io.BufferedReader) -> bytes:
    """Read to the end of the line, and return the bytes already read of the next line."""
    while chunk := file.read(BLOCK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[end + 1 :]
    return b""


def _parse_lines(block: Lines) -> list[Record | Problem]:
    rows: list[Record | Problem] = []
    from_json, long = jiter.from_json, len(block.data) > LONGEST_LINE
    for number, line in enumerate(block.data.split(b"\n"), start=block.first):
        try:
            fields = from_json(line, catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as error:
            if line.strip():
                rows.append(_diagnose(number, line, str(error)))
            continue
        if long and len(line) > LONGEST_LINE:
            rows.append(_too_long(number, line))
        elif isinstance(fields, dict):
            rows.append(Record(number, fields, line))
        else:
            rows.append(Problem(number, NOT_AN_OBJECT, line.decode().strip()))
    return rows


def _too_long(number: int, line: bytes) -> Problem:
    reason = f"line too long: over {LONGEST_LINE:,} bytes; does the file have line breaks?"
    return Problem(number, reason, line[:KEPT].decode(errors="replace") + "…")


def _diagnose(number: int, line: bytes, error: str) -> Problem:
    """Return the most precise reason why a line is not JSON."""
    raw = line.decode(errors="replace").strip()
    if len(line) > LONGEST_LINE:
        return _too_long(number, line)
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return Problem(number, f"not UTF-8: byte 0x{line[wrong.start]:02x} at column {wrong.start + 1}", raw)
    if line.startswith(codecs.BOM_UTF8):
        return Problem(number, "byte order mark: within the file; were files joined?", raw)
    if b"\0" in line:
        return Problem(number, f"NUL byte: at column {line.index(0) + 1}", raw)
    message = error.replace(" at line 1 column ", " at column ")
    if message.startswith("Detected duplicate key "):
        return Problem(number, "duplicate key: " + message.removeprefix("Detected duplicate key "), raw)
    return Problem(number, f"not JSON: {message}", raw)


def _read_json(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    """Read one JSON list of rows. It is held in memory as a whole: large files belong in JSON lines."""
    data = file.read().removeprefix(codecs.BOM_UTF8)
    try:
        values = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        rows = _elements(path, data, str(error))
    else:
        if not isinstance(values, list):
            raise DataError(f"{path}: not a list of rows", fix="wrap the rows in [ ], or use .jsonl")
        rows = (_element(position, value) for position, value in enumerate(values, start=1))
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
            yield from _parse_lines(Lines(position, text[start:end].replace("\n", " ").encode()))
            start = end
    except (ValueError, IndexError, RecursionError):
        fix = "correct that place; a file with one object a line is named .jsonl"
        raise DataError(f"{path}: not JSON: {error}", fix=fix) from None


def _element(position: int, value: object) -> Record | Problem:
    if isinstance(value, dict):
        return Record(position, value)
    return Problem(position, NOT_AN_OBJECT, dumps(value).decode())


READERS: dict[str, Callable[[Path, io.BufferedReader], Iterator[Block]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": tables.read_csv,
    ".parquet": tables.read_parquet,
}
