"""A file is read for what it is, whatever its name says, or refused in a line that says what it is."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.core.errors import DataError
from tunesmith.data import readers
from tunesmith.data.records import Record

ROWS: list[dict[str, Any]] = [{"q": f"é {number}", "a": "x; y"} for number in range(4)]
OBJECTS = [json.dumps(row, ensure_ascii=False) for row in ROWS]
LINES = "\n".join(OBJECTS) + "\n"


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def table(delimiter: str) -> bytes:
    cells = [["q", "a"], *([row["q"], f'"{row["a"]}"'] for row in ROWS)]
    return "".join(delimiter.join(row) + "\r\n" for row in cells).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", gzip.compress(LINES.encode(), mtime=0)),
        ("a.csv", pa.compress(table(","), "zstd", asbytes=True)),
        ("a.jsonl.gz", LINES.encode()),
        ("a.csv.gz", table(",")),
        ("a.parquet", table(";")),
        ("a.jsonl", parquet()),
        ("a.csv", parquet()),
        ("a.parquet", LINES.encode()),
        ("a.jsonl", json.dumps(ROWS).encode()),
        ("a.jsonl", json.dumps(ROWS, indent=2).encode()),
        ("a.csv", LINES.encode()),
        ("a.jsonl", table(",")),
        ("a.csv", table(";")),
        ("a.csv", table("\t")),
        ("a.tsv", table("\t")),
        ("a.csv", b"sep=;\r\n" + table(";")),
        ("a.ndjson", LINES.encode()),
        *((f"a{suffix}", LINES.encode(encoding)) for suffix in (".jsonl", ".json")
          for encoding in ("utf-16", "utf-16-le", "utf-16-be")),
        ("a.csv", table(",").decode().encode("utf-16")),
        ("a.jsonl", LINES.replace("\n", "\r").encode()),
        ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("a.jsonl", "".join(OBJECTS).encode()),
        ("a.jsonl", " ".join(OBJECTS).encode()),
        ("a.jsonl", ",\n".join(OBJECTS).encode()),
        ("a.jsonl", "".join(f"\x1e{line}\n" for line in OBJECTS).encode()),
        ("a.jsonl", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
        ("a.json", "\n\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("a.json", json.dumps({"data": ROWS}, indent=1).encode()),
    ],
)  # fmt: skip
def test_a_file_is_read_for_what_it_is(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    rows = list(readers.read(tmp_path / name))
    assert [row.fields for row in rows if isinstance(row, Record)] == ROWS
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines)), "each row has a line of its own"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "a Git LFS pointer"),
        (b"PK\x03\x04xl/", "Excel"),
        (b"BZh91AY", "bzip2"),
        (b"<!doctype html><html>", "a web page"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"\xff\xff\xff\xff\x10\0\0\0", "an Arrow file"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "compressed twice"),
        ("{}".encode("utf-32"), "UTF-32"),
        (b"\x80\x04\x95abc", "a pickle"),
        ("€".encode("utf-16")[:-1], "not UTF-16 to its end"),
    ],
)
def test_a_file_without_rows_is_refused_for_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    for suffix in (".jsonl", ".csv", ".parquet"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(DataError, match=reason) as error:
            list(readers.read(tmp_path / f"a{suffix}"))
        assert error.value.fix


def test_one_object_over_several_lines_is_a_row_and_a_broken_one_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0], indent=1))
    assert [row.fields for row in readers.read(tmp_path / "a.jsonl") if isinstance(row, Record)] == ROWS[:1]
    (tmp_path / "a.jsonl").write_text('{\n"a": 1\n}\n{\n"a": \n}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:4: not JSON: the object that begins here"):
        list(readers.read(tmp_path / "a.jsonl"))


def test_numbers_of_a_table_are_as_short_as_their_precision_allows(tmp_path: Path) -> None:
    columns = {
        "single": pa.array([0.1, 3.3, 1e10, None], pa.float32()),
        "double": pa.array([0.1, 1 / 3, 1e300, None], pa.float64()),
        "half": pa.array([0.1, 2.0, 5.5, None], pa.float32()).cast(pa.float16()),
        "listed": pa.array([[0.1], [0.7, 0.2], [], None], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows = [row.fields for row in readers.read(tmp_path / "a.parquet") if isinstance(row, Record)]
    assert [row["single"] for row in rows] == [0.1, 3.3, 1e10, None]
    assert [row["double"] for row in rows] == [0.1, 1 / 3, 1e300, None]
    assert [row["half"] for row in rows] == [0.1, 2.0, 5.5, None]
    assert [row["listed"] for row in rows] == [[0.1], [0.7, 0.2], [], None]


def test_nulls_that_a_table_pads_calls_with_are_left_out_and_told(tmp_path: Path) -> None:
    def row(arguments: dict[str, Any]) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}], "score": None}

    pq.write_table(pa.Table.from_pylist([row({"x": 1, "deep": {"y": 2}}), row({"z": "a"})]), tmp_path / "a.parquet")
    rows = [row for row in readers.read(tmp_path / "a.parquet") if isinstance(row, Record)]
    arguments = [record.fields["messages"][0]["tool_calls"][0]["function"]["arguments"] for record in rows]  # type: ignore[index]
    assert arguments == [{"x": 1, "deep": {"y": 2}}, {"z": "a"}]
    assert all(len(record.remarks) == 1 for record in rows)
    assert all(record.fields["score"] is None for record in rows)
