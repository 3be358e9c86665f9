import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.errors import DataError
from tunesmith.data import readers
from tunesmith.data.formats import json_rows
from tunesmith.data.records import BLOCK_BYTES, Problem, Record

ROWS = [{"q": 'one, "two"\nthree', "a": "1"}, {"q": "é ∑ 漢", "a": "2"}]


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows{suffix}"
    match suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


COMPRESSIONS = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data[:20], mtime=0) + gzip.compress(data[20:]),
    ".zst": lambda data: b"".join(pa.compress(part, "zstd", asbytes=True) for part in (data[:20], data[20:])),
}
"""In two members, or frames, as tools that append write them."""


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, compression: str) -> None:
    plain = write(tmp_path, suffix, ROWS)
    path = tmp_path / f"compressed{suffix}{compression}"
    path.write_bytes(COMPRESSIONS[compression](plain.read_bytes()))
    rows = list(readers.read(path))
    assert [record.fields for record in rows if isinstance(record, Record)] == ROWS
    assert all(isinstance(record, Record) for record in rows)


def test_a_bad_line_becomes_a_problem_with_its_number_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n\n[1]\n\xff\n{"a": 2}')
    rows = list(readers.read(path))
    problems = [(problem.line, problem.reason) for problem in rows if isinstance(problem, Problem)]
    assert [record.fields["a"] for record in rows if isinstance(record, Record)] == [1, 2]
    assert [line for line, _ in problems] == [2, 4, 5]
    assert problems[0][1].startswith("not JSON: ")
    assert problems[1][1].startswith("not a JSON object")


def test_a_cell_that_is_not_utf8_costs_only_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"q,a\ngood,1\nb\xffd,2\ngood,3\n")
    rows = list(readers.read(tmp_path / "a.csv"))
    assert [(type(row), row.line) for row in rows] == [(Record, 2), (Problem, 3), (Record, 4)]
    assert rows[1] == Problem(tmp_path / "a.csv", 3, "not UTF-8: byte 0xff", "b�d,2")


def test_a_bad_row_of_a_json_list_does_not_cost_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1},\n {"a": NaN}, {"a": 1, "a": 2}, 7,\n {"a":\n 2}]')
    rows = list(readers.read(tmp_path / "a.json"))
    assert [row.fields for row in rows if isinstance(row, Record)] == [{"a": 1}, {"a": 2}]
    assert [(row.line, row.check) for row in rows if isinstance(row, Problem)] == [
        (2, "not JSON"),
        (3, "duplicate key"),
        (4, "not a JSON object"),
    ]


def test_a_pipe_and_a_list_that_memory_may_not_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").symlink_to("/dev/zero")
    for name in ("a.jsonl", "b.jsonl"):
        with pytest.raises(DataError, match="a pipe or a device, not a file"):
            list(readers.read(tmp_path / name))
    monkeypatch.setattr(json_rows, "LARGEST_LIST", 100)
    (tmp_path / "c.json").write_text('[{"a": 1}\n' + ',{"a": 1}' * 20 + "]")
    with pytest.raises(DataError, match=r"more than 100 bytes.*\n.*fix: write each row"):
        list(readers.read(tmp_path / "c.json"))


def test_an_open_quote_is_reported_at_the_line_where_its_row_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('q,a\n1,2\n"open,3\n4,5\n6,7\n')
    with pytest.raises(DataError, match=r"a\.csv:3: not CSV: the row that begins here"):
        list(readers.read(tmp_path / "a.csv"))


def test_a_csv_may_begin_with_empty_lines_and_have_nameless_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n\nq,a,,\n1,,,\n")
    assert list(readers.read(tmp_path / "a.csv")) == [Record(tmp_path / "a.csv", 4, {"q": "1", "a": None})]


def test_a_table_value_that_python_cannot_hold_costs_only_its_row(tmp_path: Path) -> None:
    far = pa.array([0, 10**7, 1], pa.int32()).cast(pa.date32())  # the year 29,349
    pq.write_table(pa.table({"q": ["a", "b", "c"], "t": far}), tmp_path / "a.parquet")
    rows = list(readers.read(tmp_path / "a.parquet"))
    assert [type(row) for row in rows] == [Record, Problem, Record]
    assert rows[1].line == 2


def test_a_table_with_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["q", "q"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns named twice: 'q'"):
        list(readers.read(tmp_path / "a.parquet"))


def test_big_integers_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 123456789012345678901234567890}\n')
    assert list(readers.read(tmp_path / "a.jsonl")) == [
        Record(tmp_path / "a.jsonl", 1, {"a": 123456789012345678901234567890})
    ]


def test_a_line_that_is_too_long_is_one_problem_and_the_rest_is_read(tmp_path: Path) -> None:
    """The line is longer than a block, so that its rest is skipped without being held in memory."""
    long = b'{"a": "' + b"x" * (json_rows.LONGEST_LINE + 2 * BLOCK_BYTES) + b'"}'
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + long + b'\n{"a": 2}\n' + long[: -2 * BLOCK_BYTES])
    rows = list(readers.read(tmp_path / "a.jsonl"))
    assert [(type(row), row.line) for row in rows] == [(Record, 1), (Problem, 2), (Record, 3), (Problem, 4)]
    assert isinstance(rows[1], Problem)
    assert rows[1].check == "line too long"
    assert len(rows[1].raw) < 2000


def test_lines_are_counted_across_blocks(tmp_path: Path) -> None:
    lines = [json.dumps({"a": number, "pad": "x" * 5000}) for number in range(1, 1001)]
    lines[700] = "broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = list(readers.read(tmp_path / "a.jsonl"))
    assert [row.line for row in rows] == list(range(1, 1001))
    assert [row.line for row in rows if isinstance(row, Problem)] == [701]
    assert all(row.fields["a"] == row.line for row in rows if isinstance(row, Record))


def test_a_csv_row_has_the_number_of_the_line_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('q,a\n"two\nlines",1\nshort\nlast,2\n')
    rows = list(readers.read(path))
    assert [(type(row), row.line) for row in rows] == [(Record, 2), (Problem, 4), (Record, 5)]
    assert isinstance(rows[1], Problem)
    assert rows[1].reason == "wrong column count: 1 where the header has 2"


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b'{"q": "1"}\n'), ("a.json", b'[{"q": "1"}]'), ("a.csv", b"q\n1\n")]
)
def test_a_byte_order_mark_costs_no_row(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    line = 2 if name == "a.csv" else 1
    assert list(readers.read(tmp_path / name)) == [Record(tmp_path / name, line, {"q": "1"})]


def test_a_long_csv_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q\n" + "x" * 200_000 + "\n")
    assert list(readers.read(tmp_path / "a.csv")) == [Record(tmp_path / "a.csv", 2, {"q": "x" * 200_000})]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(DataError, match="a folder, not a file"):
        list(readers.read(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.txt", b"x", "unknown format '.txt'"),
        ("a.json", b'{"a": 1}', "not a list of rows"),
        ("a.json", b'[{"a": 1}, {', "not JSON"),
        ("a.parquet", b"nothing of the sort", "not Parquet"),
        ("a.csv", b'q,a\n"x,1\n', "not CSV"),
        ("a.csv", b"q,\xff\n1,2\n", "not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-9], "the file is damaged"),
        ("a.jsonl.zst", pa.compress(b'{"a": 1}\n' * 1000, "zstd", asbytes=True)[:-9], "the file is damaged"),
        ("a.jsonl.gz", b"no such thing", "the file is damaged"),
        ("a.txt.gz", b"x", "unknown format '.txt'"),
        ("a.csv", b"q,a,q\n1,2,3\n", "columns named twice: 'q'"),
    ],
)
def test_an_unusable_file_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        list(readers.read(tmp_path / name))
    assert reason in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_json_lines_in_a_file_named_json_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": \n{"a": 3}\n')
    rows = list(readers.read(tmp_path / "a.json"))
    assert [(type(row), row.line) for row in rows] == [(Record, 1), (Problem, 2), (Record, 3)]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(readers.read(tmp_path / "none.jsonl"))


@given(st.binary(min_size=1))
def test_no_bytes_crash_a_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("rows")
    for suffix in (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".csv.zst"):
        path = folder / f"rows{suffix}"
        path.write_bytes(content)
        try:
            rows = list(readers.read(path))
        except DataError:
            continue
        assert all(isinstance(row, Record | Problem) for row in rows)
