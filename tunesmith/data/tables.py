"""Readers of tables: CSV and Parquet."""

import csv
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.core.errors import DataError
from tunesmith.data.records import BLOCK_BYTES, BLOCK_ROWS, Block, Problem, Record, in_blocks

SURROGATE = re.compile("[\ud800-\udfff]")


def read_csv(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    yield from in_blocks(_csv_rows(path, file))


def _csv_rows(path: Path, file: io.BufferedReader) -> Iterator[Record | Problem]:
    # Bytes that are not UTF-8 become surrogates, so that one bad cell costs one row.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(text, strict=True)
    line = 1
    header: list[str] = []
    try:
        for values in reader:
            if header:
                row = _csv_row(path, line, header, values)
                if row is not None:
                    yield row
            elif values:
                _check_header(path, line, values)
                header = values
            line = reader.line_num + 1
    except csv.Error as error:
        fix = "correct the quoting there; without it the end of that row cannot be found"
        raise DataError(f"{path}:{line}: not CSV: the row that begins here: {error}", fix=fix) from None
    finally:
        text.detach()  # or `text`, once collected, would close the caller's file


def _check_header(path: Path, line: int, header: list[str]) -> None:
    if SURROGATE.search("".join(header)):
        raise DataError(f"{path}:{line}: not UTF-8", fix="save the file as UTF-8")
    _check_distinct(f"{path}:{line}", header)


def _check_distinct(where: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        fix = "give every column a name of its own"
        raise DataError(f"{where}: columns named twice: {', '.join(map(repr, repeated))}", fix=fix)


def _csv_row(path: Path, line: int, header: list[str], values: list[str]) -> Record | Problem | None:
    """Build a row, or None for a blank line. An empty cell is null; a column without a name is left out."""
    if not values:
        return None
    broken = next((value for value in values if SURROGATE.search(value)), None)
    if broken is not None:
        raw = ",".join(values).encode(errors="surrogateescape").decode(errors="replace")
        byte = ord(SURROGATE.findall(broken)[0]) - 0xDC00
        return Problem(path, line, f"not UTF-8: byte 0x{byte:02x}", raw)
    if len(values) != len(header):
        reason = f"wrong column count: {len(values)} where the header has {len(header)}"
        return Problem(path, line, reason, ",".join(values))
    return Record(path, line, {name: value or None for name, value in zip(header, values, strict=True) if name})


def read_parquet(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    with tempfile.TemporaryFile() as seekable:
        if not file.seekable():
            shutil.copyfileobj(file, seekable)
        try:
            table = pq.ParquetFile(file if file.seekable() else seekable)
            _check_distinct(str(path), table.schema_arrow.names)
            first = 1
            for batch in table.iter_batches(BLOCK_ROWS):
                rows = max(1, min(len(batch), len(batch) * BLOCK_BYTES // max(1, batch.nbytes)))
                for start in range(0, len(batch), rows):
                    yield _arrow_rows(path, batch.slice(start, rows), first + start)
                first += len(batch)
        except pa.ArrowException as error:
            raise DataError(f"{path}: not Parquet: {error}", fix="write the file again") from None


def _arrow_rows(path: Path, batch: pa.RecordBatch, first: int) -> list[Record | Problem]:
    """Convert a batch to rows. A value that Python cannot hold (a date in the year 10,000) is a problem of its row."""
    try:
        return [Record(path, position, fields) for position, fields in enumerate(batch.to_pylist(), start=first)]
    except (ValueError, OverflowError) as error:
        if len(batch) == 1:
            return [Problem(path, first, f"not readable: {error}", "")]
    return [row for start in range(len(batch)) for row in _arrow_rows(path, batch.slice(start, 1), first + start)]
