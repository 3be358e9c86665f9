"""What a file is, by its first bytes: people rename files, and exports do not end as they should."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tunesmith.core.errors import DataError
from tunesmith.data.records import BLOCK_BYTES

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
SUFFIXES = (".gz", ".zst")
NOT_ROWS = {
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "`git lfs pull` brings it"),
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV"),
    b"BZh": ("compressed with bzip2", "unpack it, or compress it with gzip"),
    b"\xfd7zXZ\x00": ("compressed with xz", "unpack it, or compress it with gzip"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"ARROW1": ("an Arrow file", "save it as Parquet: `datasets.Dataset.from_file(…).to_parquet(…)`"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV or JSON lines"),
    b"Obj\x01": ("an Avro file", "convert it to Parquet"),
    b"ORC": ("an ORC file", "convert it to Parquet"),
    b"\x89HDF": ("an HDF5 file", "convert it to Parquet"),
    b"\x80\x04\x95": ("a pickle, which runs code when it is opened", "save it as JSON lines where it was made"),
    b"\x93NUMPY": ("a NumPy array", "save it as JSON lines"),
    b"%PDF": ("a PDF", "put its rows into a table or JSON lines"),
    b"<!DOCTYPE": ("a web page, such as the error of a failed download", "download the file again, with a login"),
    b"<html": ("a web page, such as the error of a failed download", "download the file again, with a login"),
    b"<?xml": ("XML, such as the error of a failed download", "download the file again, or convert it to JSON lines"),
}
"""Files that hold no rows, by how they begin, each with what it is and how to get at the rows."""
PARQUET = b"PAR1"
SAMPLE = 2**16
"""Bytes by which a file is judged."""
DELIMITERS = (",", ";", "\t", "|")
COLUMN = re.compile(r"[^\W\d][\w .:/()-]{0,60}")


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes, decompressed. A truncated compressed file raises OSError at its end."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: a pipe or a device, not a file", fix="write its rows into a file, and name that")
    with path.open("rb") as file:
        start = file.peek(4)[:4]
        compression = next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)
        if compression is None and path.suffix in SUFFIXES and start.lstrip()[:1] not in (b"{", b"["):
            raise DataError(
                f"{path}: the file is damaged: not compressed, as its name says", fix="compress or download it again"
            )
        if compression is None:
            yield file
        else:
            with pa.CompressedInputStream(file, compression) as plain:
                yield io.BufferedReader(plain, BLOCK_BYTES)


def check_rows(path: Path, start: bytes) -> None:
    """Raise DataError for a file that begins as one without rows, with what it is."""
    for magic, (subject, fix) in NOT_ROWS.items():
        if start.lstrip(codecs.BOM_UTF8 + b" \r\n\t")[: len(magic)].lower() == magic.lower():
            raise DataError(f"{path}: {subject}", fix=fix)


def in_utf8(path: Path, file: io.BufferedReader) -> io.BufferedReader:
    """Return ``file``, or its text in UTF-8 where it is in UTF-16, with or without a byte order mark."""
    start = file.peek(SAMPLE)[:SAMPLE]
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    else:
        nulls = [start[place::2].count(0) for place in (0, 1)]
        if max(nulls) < len(start) // 4 or min(nulls) * 10 > max(nulls):
            return file
        encoding = "utf-16-le" if nulls[1] > nulls[0] else "utf-16-be"
    return io.BufferedReader(_InUtf8(path, file, encoding), BLOCK_BYTES)


class _InUtf8(io.RawIOBase):
    def __init__(self, path: Path, file: io.BufferedReader, encoding: str) -> None:
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._rest:
            chunk = self._file.read(BLOCK_BYTES)
            try:
                self._rest = self._decoder.decode(chunk, final=not chunk).encode()
            except UnicodeError as error:
                raise DataError(f"{self._path}: not UTF-16 to its end: {error}", fix="save it as UTF-8") from None
            if not chunk:
                break
        part, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(part)] = part
        return len(part)


def text_format(start: bytes, named: str) -> str:
    """Return the format of a text file, .json, .jsonl, .csv or .tsv, by how it begins; ``named`` where that is open."""
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    as_json = named in (".json", ".jsonl", ".ndjson")
    if text[:1] in (b"{", b"["):
        return named if as_json else ".json"
    if as_json and _is_table(text.decode(errors="replace")):
        return ".csv"
    return named


def _is_table(text: str) -> bool:
    """Tell whether a text begins with a header of two columns or more and a row of as many."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter(text))
    try:
        header, first = list(itertools.islice(filter(None, reader), 2))
    except (csv.Error, ValueError):
        return False
    return len(header) == len(first) > 1 and all(COLUMN.fullmatch(name) for name in header)


def delimiter(text: str) -> str:
    """Return the delimiter of a CSV by its header: the first of `DELIMITERS` of which it has the most."""
    if text.startswith("sep=") and len(text) > 4:  # Excel's
        return text[4]
    header = next((line for line in text.splitlines() if line.strip()), "")
    plain = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=lambda mark: (plain.count(mark), -DELIMITERS.index(mark)))
