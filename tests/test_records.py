import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import records
from tunesmith.errors import DataError
from tunesmith.records import Problem, Record

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


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    found = list(records.read(write(tmp_path, suffix, ROWS)))
    assert [record.fields for record in found if isinstance(record, Record)] == ROWS


def test_a_bad_line_is_told_with_its_number_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n\n[1]\n\xff\n{"a": 2}')
    found = list(records.read(path))
    problems = [(problem.line, problem.reason) for problem in found if isinstance(problem, Problem)]
    assert [record.fields["a"] for record in found if isinstance(record, Record)] == [1, 2]
    assert [line for line, _ in problems] == [2, 4, 5]
    assert problems[0][1].startswith("not JSON: ")
    assert problems[1][1] == "not a JSON object"


def test_a_csv_row_is_told_by_the_line_it_begins_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('q,a\n"two\nlines",1\nshort\nlast,2\n')
    found = list(records.read(path))
    assert [(type(row), row.line) for row in found] == [(Record, 2), (Problem, 4), (Record, 5)]
    assert isinstance(found[1], Problem)
    assert found[1].reason == "1 fields where the header has 2"


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b'{"q": "1"}\n'), ("a.json", b'[{"q": "1"}]'), ("a.csv", b"q\n1\n")]
)
def test_a_byte_order_mark_costs_no_row(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert list(records.read(tmp_path / name)) == [Record(2 if name == "a.csv" else 1, {"q": "1"})]


def test_a_long_csv_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q\n" + "x" * 200_000 + "\n")
    assert list(records.read(tmp_path / "a.csv")) == [Record(2, {"q": "x" * 200_000})]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(DataError, match="a folder, not a file"):
        list(records.read(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.txt", b"x", "unknown format '.txt'"),
        ("a.json", b'{"a": 1}', "holds no list of rows"),
        ("a.json", b"[{]", "not JSON"),
        ("a.parquet", b"nothing of the sort", "not Parquet"),
        ("a.csv", b'q,a\n"x,1\n', "not CSV"),
        ("a.csv", b"q,a\n\xff,1\n", "not UTF-8"),
        ("a.csv", b"q,a,q\n1,2,3\n", "columns named twice: 'q'"),
    ],
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        list(records.read(tmp_path / name))
    assert told in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(records.read(tmp_path / "none.jsonl"))


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none())))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    records.write_jsonl(path, rows)
    if rows:
        assert records.read_ready(path) == rows


@given(st.binary(min_size=1))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("rows")
    for suffix in (".jsonl", ".json", ".csv", ".parquet"):
        path = folder / f"rows{suffix}"
        path.write_bytes(content)
        try:
            found = list(records.read(path))
        except DataError:
            continue
        assert all(isinstance(row, Record | Problem) for row in found)


def test_a_split_without_rows_says_where_shares_are_set(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(DataError, match="splits"):
        records.read_ready(tmp_path / "test.jsonl")
