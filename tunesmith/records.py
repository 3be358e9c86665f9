"""Read rows from JSONL, JSON, CSV and Parquet; read and write ready rows.

Reading never stops at a bad row: it yields a `Problem` with the line and the reason, and goes on.
"""

import codecs
import csv
import errno
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith import atomic
from tunesmith.errors import DataError

EMPTY = "put at least one row in it, or name another file"


@dataclass(frozen=True)
class Record:
    """A row as it stands in the file.

    line: 1-based line in a text file (where the row begins); 1-based position in JSON arrays and Parquet.
    """

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used, where it stands, why, and its text."""

    line: int
    reason: str
    raw: str


def read(path: Path) -> Iterator[Record | Problem]:
    """Every row of ``path``, in order; the suffix says the format.

    Raises DataError where the file is absent, empty, of another format, or not parseable as a whole.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise DataError(f"{path}: unknown format {path.suffix!r}", fix=f"use one of {', '.join(readers)}")
    try:
        if path.is_dir():
            raise DataError(f"{path}: a folder, not a file", fix="name a file in it")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty", fix=EMPTY)
        yield from readers[path.suffix](path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", fix="correct the dataset's `path` in params.yaml") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 (byte {error.start}: {error.reason})", fix="save the file as UTF-8"
        ) from None


def _read_jsonl(path: Path) -> Iterator[Record | Problem]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            raw = line.decode("utf-8", errors="replace").rstrip("\r\n")
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield Problem(number, f"not JSON: {error.msg} at column {error.colno}", raw)
                continue
            yield Record(number, value) if isinstance(value, dict) else Problem(number, "not a JSON object", raw)


def _read_json(path: Path) -> Iterator[Record | Problem]:
    try:
        values = orjson.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        fix = "correct that place; a file with one object a line is named .jsonl"
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}", fix=fix) from None
    if not isinstance(values, list):
        raise DataError(f"{path}: holds no list of rows", fix="wrap the rows in [ ], or use .jsonl")
    for position, value in enumerate(values, start=1):
        if isinstance(value, dict):
            yield Record(position, value)
        else:
            yield Problem(position, "not a JSON object", json.dumps(value))


def _read_csv(path: Path) -> Iterator[Record | Problem]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(2**31 - 1)
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                twice = sorted({name for name in header if header.count(name) > 1})
                fix = "give every column a name of its own in the first line"
                raise DataError(f"{path}:1: columns named twice: {', '.join(map(repr, twice))}", fix=fix)
            line = reader.line_num + 1
            for values in reader:
                if len(values) == len(header):
                    yield Record(line, dict(zip(header, values, strict=True)))
                elif values:
                    reason = f"{len(values)} fields where the header has {len(header)}"
                    yield Problem(line, reason, ",".join(values))
                line = reader.line_num + 1
        except csv.Error as error:
            fix = "correct the quoting from there on; until it is, where a row ends cannot be told"
            raise DataError(f"{path}:{reader.line_num}: not CSV: {error}", fix=fix) from None


def _read_parquet(path: Path) -> Iterator[Record | Problem]:
    try:
        table = pq.ParquetFile(path)
        position = 0
        for batch in table.iter_batches():
            for fields in batch.to_pylist():
                position += 1
                yield Record(position, fields)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOENT:
            raise
        raise DataError(f"{path}: not Parquet: {error}", fix="write the file again") from None


def read_ready(path: Path) -> list[dict[str, Any]]:
    """The ready rows of a split, as `prepare_data` wrote them. Raises DataError where there are none."""
    rows = [record.fields for record in read(path) if isinstance(record, Record)] if path.stat().st_size else []
    if not rows:
        raise DataError(
            f"{path}: this split has no rows",
            fix="give the split a share in params.yaml, data.<dataset>.splits and .limit, or name another dataset",
        )
    return rows


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, UTF-8, whole or not at all."""
    atomic.write_bytes(path, b"".join(orjson.dumps(row) + b"\n" for row in rows))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON in UTF-8, whole or not at all."""
    atomic.write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def problem_row(file: Path, problem: Problem) -> dict[str, Any]:
    """A quarantine line: {file, line, reason, raw}."""
    return {"file": str(file), **asdict(problem)}
