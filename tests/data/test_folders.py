from contextlib import ExitStack
from pathlib import Path

import data_sets as data
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError
from tunesmith.data import prepare, readers
from tunesmith.data.personal.rows import quarantine

SUMS = [{"question": f"what is {i}", "answer": str(i)} for i in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of rows and one deeper, among others that are not read."""
    folder = tmp_path / "chat"
    for name in ("b.jsonl", "a.csv", "deep/er/a.jsonl", "README.md", ".hidden.jsonl", ".cache/a.jsonl", "elsewhere"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "elsewhere").unlink()
    (folder / "elsewhere").symlink_to(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (None, ["a.csv", "b.jsonl", "deep/er/a.jsonl"]),
        ("*.jsonl", ["b.jsonl"]),
        ("**/*.jsonl", ["b.jsonl", "deep/er/a.jsonl"]),
        ("*/*/a.*", ["deep/er/a.jsonl"]),
        ("[ab].*", ["a.csv", "b.jsonl"]),
        ("README.*", ["README.md"]),
    ],
)
def test_a_folder_has_its_files_in_one_order_and_names_what_is_not_read(
    folder: Path, pattern: str | None, names: list[str]
) -> None:
    files = readers.find(folder, pattern)
    assert [files.relative(path) for path in files.paths] == names
    there = {"a.csv", "b.jsonl", "deep/er/a.jsonl", "README.md", ".hidden.jsonl", ".cache/a.jsonl", "elsewhere"}
    assert {*map(files.relative, files.ignored)} == there - {*names}


@pytest.mark.parametrize(
    ("path", "pattern", "message"),
    [
        ("chat", "*.parquet", "chat/*.parquet: no file of rows, only .cache/a.jsonl, .hidden.jsonl, README.md, a.csv"),
        ("empty", None, "empty: no file of rows, the folder is empty"),
        ("chat/a.csv", "*.csv", "chat/a.csv: a file, not a folder in which *.csv could be"),
        ("none", None, "none: no such file or folder"),
    ],
)
def test_a_place_without_files_of_rows_is_refused(folder: Path, path: str, pattern: str | None, message: str) -> None:
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataError) as error:
        readers.find(folder.parent / path, pattern)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("a/b.jsonl", ("a/b.jsonl", None)),
        ("a/b-*.jsonl", ("a", "b-*.jsonl")),
        ("a/**/b/?.csv", ("a", "**/b/?.csv")),
        ("*.csv", (".", "*.csv")),
        ("/a/[bc].csv", ("/a", "[bc].csv")),
    ],
)
def test_a_pattern_is_split_from_its_folder(text: str, split: tuple[str, str | None]) -> None:
    folder, pattern = readers.split_pattern(text)
    assert (str(folder), pattern) == split


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows [1].csv").touch()
    assert readers.split_pattern(str(tmp_path / "rows [1].csv")) == (tmp_path / "rows [1].csv", None)


def test_rows_in_several_files_of_any_format_are_named_by_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.csv").write_text("question,answer\nwhat is 1,1\nwhat is 2,9\nbroken\n")
    data.write(folder / "a.jsonl", [*SUMS[:3], "{"])
    pq.write_table(pa.Table.from_pylist([{"question": "what is 0", "answer": "0"}]), folder / "deep" / "c.parquet")
    dataset = data.dataset(folder, held_out={"path": folder, "overlap": 0.7}, max_bad_share=0.6)
    with ExitStack() as stack:
        checked = data.check(stack, dataset)
        assert len(data.good_rows(checked)) == 2
    reasons = [(line["file"], line["line"], line["reason"]) for line in quarantine(checked.problems, dataset)]
    contradiction = "conflicting answers: {} has the same prompt and disagrees"
    assert reasons == [
        (f"{folder}/a.jsonl", 3, contradiction.format("line 3 of b.csv")),
        (f"{folder}/a.jsonl", 4, reasons[1][2]),
        (f"{folder}/b.csv", 2, "exact duplicate: of line 2 of a.jsonl"),
        (f"{folder}/b.csv", 3, contradiction.format("line 3 of a.jsonl")),
        (f"{folder}/b.csv", 4, "wrong column count: 1 where the header has 2"),
        (f"{folder}/deep/c.parquet", 1, "exact duplicate: of line 1 of a.jsonl"),
    ]
    assert all(problem.raw for problem in checked.problems)
    with ExitStack() as stack, pytest.raises(DataError) as error:
        data.check(stack, dataset.model_copy(update={"max_bad_share": 0.1}))
    assert f"{folder}/b.csv:4: wrong column count" in str(error.value)


def splits(path: Path) -> dict[str, list[bytes]]:
    dataset = data.dataset(path, near_duplicates=0.9, held_out={"path": path, "overlap": 0.7})
    with ExitStack() as stack:
        checked = data.check(stack, dataset)
        assert checked.total == 15
        return {name: list(map(checked.read, rows)) for name, rows in prepare.select(checked, dataset).items()}


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=15, max_size=15))
def test_rows_give_the_same_splits_whatever_files_they_are_in(
    tmp_path_factory: pytest.TempPathFactory, shards: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = sorted(zip(shards, [*SUMS, *SUMS[:3]], strict=True), key=lambda row: row[0])
    (folder / "shards").mkdir()
    for shard in {*shards}:
        data.write(folder / "shards" / f"{shard}.jsonl", [row for number, row in rows if number == shard])
    whole = data.write(folder / "whole.jsonl", [row for _, row in rows])
    assert splits(whole) == splits(folder / "shards")
