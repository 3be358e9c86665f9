"""Readers of tables: CSV and Parquet."""

import csv
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.core.errors import DataError
from tunesmith.data.formats import kinds
from tunesmith.data.records import BLOCK_BYTES, BLOCK_ROWS, Block, Fields, Problem, Record, in_blocks

CALLED = {"arguments", "parameters", "input_schema", "input", "inputSchema", "args"}
"""Fields of a tool or a call whose content differs from row to row."""
PADDED = "nulls left out of a tool's arguments, which Parquet writes for those that only other rows have"
BATCH_BYTES = 2**25
"""Bytes of rows, decompressed, that are held at once."""
SURROGATE = re.compile("[\ud800-\udfff]")


def read_csv(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    yield from in_blocks(_csv_rows(path, file))


def _csv_rows(path: Path, file: io.BufferedReader) -> Iterator[Record | Problem]:
    # Bytes that are not UTF-8 become surrogates, so that one bad cell costs one row.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(2**31 - 1)
    delimiter = kinds.delimiter(file.peek(kinds.SAMPLE)[: kinds.SAMPLE].decode("utf-8-sig", errors="replace"))
    reader = csv.reader(text, strict=True, delimiter=delimiter)
    line = 1
    header: list[str] = []
    try:
        for values in reader:
            if header:
                row = _csv_row(path, line, header, values)
                if row is not None:
                    yield row
            elif values and not values[0].startswith("sep=") and values != ["sep=", ""]:
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
    fields: Fields = {name: value or None for name, value in zip(header, values, strict=True) if name}
    return Record(path, line, fields, table=True)


def read_parquet(path: Path, file: io.BufferedReader) -> Iterator[Block]:
    with tempfile.TemporaryFile() as seekable:
        if not file.seekable():
            shutil.copyfileobj(file, seekable)
        try:
            table = pq.ParquetFile(file if file.seekable() else seekable)
            _check_distinct(str(path), table.schema_arrow.names)
            first = 1
            for batch in table.iter_batches(_batch_rows(table.metadata)):
                rows = max(1, min(len(batch), len(batch) * BLOCK_BYTES // max(1, batch.nbytes)))
                for start in range(0, len(batch), rows):
                    yield _arrow_rows(path, batch.slice(start, rows), first + start)
                first += len(batch)
        except pa.ArrowException as error:
            raise DataError(f"{path}: not Parquet: {error}", fix="write the file again") from None


def _batch_rows(metadata: Any) -> int:
    """Return the number of rows to hold at once: fewer of rows with images within."""
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return int(max(1, min(BLOCK_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size))))


def _arrow_rows(path: Path, batch: pa.RecordBatch, first: int) -> list[Record | Problem]:
    """Convert a batch to rows. A value that Python cannot hold (a date in the year 10,000) is a problem of its row."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if len(batch) == 1:
            return [Problem(path, first, f"not readable: {error}", "")]
        return [row for start in range(len(batch)) for row in _arrow_rows(path, batch.slice(start, 1), first + start)]
    remarks: dict[int, tuple[tuple[str, str], ...]] = {}
    for field in batch.schema:
        if _holds(field.type, pa.types.is_float32, pa.types.is_float16):
            for row in rows:
                row[field.name] = _shortest(row[field.name], field.type)
        if pa.types.is_nested(field.type) and _names(field.type) & CALLED:
            for place, row in enumerate(rows):
                row[field.name], padded = _without_padding(row[field.name], within=False)
                if padded:
                    remarks[place] = ((PADDED, padded),)
    return [Record(path, first + place, fields, remarks=remarks.get(place, ())) for place, fields in enumerate(rows)]


def _holds(kind: pa.DataType, *tests: Callable[[pa.DataType], bool]) -> bool:
    """Tell whether a type, or one within it, passes a test."""
    return any(test(kind) for test in tests) or any(_holds(part.type, *tests) for part in _fields(kind))


def _names(kind: pa.DataType) -> set[str]:
    """Return the names of all fields within a type."""
    return {part.name for part in _fields(kind)} | {name for part in _fields(kind) for name in _names(part.type)}


def _fields(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(place) for place in range(kind.num_fields)] if pa.types.is_nested(kind) else []


def _shortest(value: Any, kind: pa.DataType) -> Any:
    """Return the shortest number that reads back as ``value`` in the precision of its column."""
    if isinstance(value, float):
        return float(str(kind.to_pandas_dtype()(value)))
    if isinstance(value, list) and _fields(kind):
        return [_shortest(part, _fields(kind)[0].type) for part in value]
    if isinstance(value, dict):
        return {part.name: _shortest(value[part.name], part.type) for part in _fields(kind)}
    return value


def _without_padding(value: Any, *, within: bool) -> tuple[Any, str]:
    """Leave the nulls out of the arguments of calls, and of tools, that Arrow writes for what only other rows have.

    Returns the value, and the name of a field that was left out. within: whether the value is such arguments.
    """
    padded = ""
    if isinstance(value, list):
        parts = [_without_padding(part, within=within) for part in value]
        return [part for part, _ in parts], next((name for _, name in parts if name), "")
    if not isinstance(value, dict):
        return value, ""
    kept = {}
    for name, part in value.items():
        if part is None and within:
            padded = padded or name
            continue
        kept[name], inner = _without_padding(part, within=within or name in CALLED)
        padded = padded or inner
    return kept, padded
