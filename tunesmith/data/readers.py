"""Read rows from JSONL, JSON, CSV and Parquet, plain or compressed with gzip or Zstandard.

Reading never stops at a bad row: it yields a `Problem` with the line and the reason, and goes on. A file is read in
blocks, and JSON lines are parsed when their block is, which another process may do.
"""

import codecs
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jiter
import pyarrow as pa

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import dumps
from tunesmith.data import tables
from tunesmith.data.records import BLOCK_BYTES, Block, Lines, Problem, Record, in_blocks

EMPTY = "put at least one row in it, or name another file"
LONGEST_LINE = 2**24
"""Bytes. No training context holds more; a longer line is a file that lost its line breaks."""
SHOWN = 1000
"""Characters kept of a line that is too long."""
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


def read(path: Path) -> Iterator[Record | Problem]:
    """Every row of ``path``, in order. Raises DataError as `blocks` does."""
    for block in blocks(path):
        yield from parse(block)


def blocks(path: Path) -> Iterator[Block]:
    """``path`` in blocks of about 256 KiB, or at most 500 rows; the suffix says the format and the compression.

    Raises DataError where the file is absent, empty, damaged, of another format, or not parseable as a whole.
    """
    reader = _reader(path)
    try:
        with _open(path) as file:
            start = file.peek(4)[:4]
            if not start:
                raise DataError(f"{path}: the file is empty", fix=EMPTY)
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise DataError(f"{path}: UTF-16, not UTF-8", fix="save the file as UTF-8")
            yield from reader(path, file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", fix="correct the path") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # So pyarrow tells of damage.
        raise DataError(f"{path}: the file is damaged: {error}", fix="compress or download it again") from None


def parse(block: Block) -> Iterable[Record | Problem]:
    """The rows of a block."""
    return _parse_lines(block) if isinstance(block, Lines) else block


def starts_with_mark(path: Path) -> bool:
    """Whether the file begins with a UTF-8 byte order mark, which reading leaves out."""
    with _open(path) as file:
        return file.peek(3)[:3] == codecs.BOM_UTF8


def is_data(path: Path) -> bool:
    """Whether the name is that of a file that can be read."""
    return _suffix(path) in READERS


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def _reader(path: Path) -> Callable[[Path, io.BufferedReader], Iterator[Block]]:
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a file", fix="name a file in it")
    if not is_data(path):
        known = f"{', '.join(READERS)}, each also followed by {' or '.join(COMPRESSED)}"
        raise DataError(f"{path}: unknown format {_suffix(path)!r}", fix=f"use one of {known}")
    return READERS[_suffix(path)]


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, decompressed. A compressed file that was cut short is an error, not its beginning."""
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
    """Read to the end of the line; what was read of the next one."""
    while chunk := file.read(BLOCK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[end + 1 :]
    return b""


def _parse_lines(block: Lines) -> list[Record | Problem]:
    found: list[Record | Problem] = []
    from_json, long = jiter.from_json, len(block.data) > LONGEST_LINE
    for number, line in enumerate(block.data.split(b"\n"), start=block.first):
        try:
            fields = from_json(line, catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as error:
            if line.strip():
                found.append(_diagnose(number, line, str(error)))
            continue
        if long and len(line) > LONGEST_LINE:
            found.append(_too_long(number, line))
        elif isinstance(fields, dict):
            found.append(Record(number, fields, line))
        else:
            found.append(Problem(number, "not a JSON object: a row is written { … }", line.decode().strip()))
    return found


def _too_long(number: int, line: bytes) -> Problem:
    reason = f"line too long: over {LONGEST_LINE:,} bytes; does the file have line breaks?"
    return Problem(number, reason, line[:SHOWN].decode(errors="replace") + "…")


def _diagnose(number: int, line: bytes, error: str) -> Problem:
    """Why a line is not JSON, in the most telling words."""
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
    told = error.replace(" at line 1 column ", " at column ")
    if told.startswith("Detected duplicate key "):
        return Problem(number, "duplicate key: " + told.removeprefix("Detected duplicate key "), raw)
    return Problem(number, f"not JSON: {told}", raw)


def _read_json(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    """A list of rows. It is read whole: many rows belong in JSON lines."""
    data = file.read().removeprefix(codecs.BOM_UTF8)
    try:
        values = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        rows = _elements(path, data, str(error))
    else:
        if not isinstance(values, list):
            raise DataError(f"{path}: holds no list of rows", fix="wrap the rows in [ ], or use .jsonl")
        rows = (_element(position, value) for position, value in enumerate(values, start=1))
    yield from in_blocks(rows)


def _elements(path: Path, data: bytes, error: str) -> Iterator[Record | Problem]:
    """The rows of a list that is not all in order, each parsed by itself: a bad one costs itself alone.

    Raises DataError where it cannot be told where a row ends.
    """
    try:
        text, decoder = data.decode(), json.JSONDecoder()
        place = text.index("[") + 1
        for position in itertools.count(1):
            while text[place] in " \t\r\n,":
                place += 1
            if text[place] == "]":
                return
            _, end = decoder.raw_decode(text, place)
            yield from _parse_lines(Lines(position, text[place:end].replace("\n", " ").encode()))
            place = end
    except (ValueError, IndexError, RecursionError):
        fix = "correct that place; a file with one object a line is named .jsonl"
        raise DataError(f"{path}: not JSON: {error}", fix=fix) from None


def _element(position: int, value: Any) -> Record | Problem:
    if isinstance(value, dict):
        return Record(position, value)
    return Problem(position, "not a JSON object: a row is written { … }", dumps(value).decode())


READERS: dict[str, Callable[[Path, io.BufferedReader], Iterator[Block]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": tables.read_csv,
    ".parquet": tables.read_parquet,
}
