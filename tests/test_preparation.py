import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.demo import Demo, generate
from tunesmith.errors import DataError, ParamsError
from tunesmith.preparation import Columns, Dataset, Limit, Splits, prepare, split, to_answer
from tunesmith.records import Problem, Record

NO_LIMIT = Limit(train=None, validation=None, test=None)


def dataset(path: Path, **changes: Any) -> Dataset:
    settings: dict[str, Any] = {
        "path": path,
        "columns": Columns(prompt="q", completion="a"),
        "system": None,
        "splits": Splits(validation=0.1, test=0.3),
        "limit": NO_LIMIT,
        "max_bad_share": 0.5,
    }
    return Dataset(**(settings | changes))


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def good(count: int) -> list[str]:
    return [json.dumps({"q": f"question {i}", "a": str(i)}) for i in range(count)]


def test_rows_become_messages(tmp_path: Path) -> None:
    row = to_answer(Record(1, {"q": "2 + 2", "a": 4}), dataset(tmp_path, system="Be brief."))
    assert isinstance(row, dict)
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2"}]
    assert row["completion"] == [{"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"q": "x"}, "missing completion: no value in column 'a'"),
        ({"q": None, "a": "x"}, "missing prompt: no value in column 'q'"),
        ({"q": " \n", "a": "x"}, "empty prompt: column 'q' holds only space"),
        ({"q": "x", "a": ["y"]}, "wrong type: completion is list, not text"),
        ({"q": "x", "a": True}, "wrong type: completion is bool, not text"),
        ({"q": "x", "a": math.nan}, "missing completion: no value in column 'a'"),
        ({"q": "x", "a": math.inf}, "wrong type: completion is float, not text"),
        ({"q": "x", "a": date(2024, 1, 1)}, "wrong type: completion is date, not text"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    problem = to_answer(Record(7, fields), dataset(tmp_path))
    assert isinstance(problem, Problem)
    assert (problem.line, problem.reason) == (7, reason)


def test_bad_rows_are_counted_by_reason_and_no_good_row_is_lost(tmp_path: Path) -> None:
    lines = good(20)
    lines[3:3] = ["not json", '{"q": "", "a": "1"}']
    lines.append(lines[0])
    prepared = prepare(dataset(write(tmp_path, lines)))
    assert [(problem.line, problem.reason.split(":")[0]) for problem in prepared.problems] == [
        (4, "not JSON"),
        (5, "empty prompt"),
        (23, "exact duplicate"),
    ]
    kept = [row for rows in prepared.splits.values() for row in rows]
    assert sorted(row["prompt"][0]["content"] for row in kept) == sorted(f"question {i}" for i in range(20))
    assert prepared.report["good"] == 20
    assert prepared.report["quarantined"] == 3


def test_too_many_bad_rows_stop_with_the_first_of_them(tmp_path: Path) -> None:
    path = write(tmp_path, [*good(8), "{", "["])
    with pytest.raises(DataError) as error:
        prepare(dataset(path, max_bad_share=0.1))
    assert "2 of 10 rows are bad" in str(error.value)
    assert f"{path}:9: not JSON" in str(error.value)


def test_a_file_without_one_good_row_stops_whatever_the_share(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 2 rows are bad"):
        prepare(dataset(write(tmp_path, ["{", "["]), max_bad_share=1.0))


def test_duplicates_are_set_aside_but_are_not_bad(tmp_path: Path) -> None:
    prepared = prepare(dataset(write(tmp_path, good(5) * 3), max_bad_share=0))
    assert (prepared.report["good"], prepared.report["quarantined"]) == (5, 10)
    assert prepared.report["reasons"] == {"exact duplicate": 10}


def test_a_file_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("q,a\n")
    with pytest.raises(DataError, match="the file has no rows"):
        prepare(dataset(tmp_path / "rows.csv"))


def test_a_column_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path, ['{"question": "x", "a": "y"}'])
    with pytest.raises(DataError) as error:
        prepare(dataset(path))
    assert "no column 'q'; the file has 'a', 'question'" in str(error.value)


def test_a_limit_takes_so_many_and_counts_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, good(100))
    prepared = prepare(dataset(path, limit=Limit(train=10, validation=None, test=0)))
    assert len(prepared.splits["train"]) == 10
    assert prepared.splits["test"] == []
    assert sum(prepared.report["splits"].values()) + prepared.report["left_out_by_limit"] == 100


def rows(prompts: list[str]) -> list[dict[str, Any]]:
    return [{"id": prompt, "prompt": [{"role": "user", "content": prompt}]} for prompt in prompts]


prompts = st.lists(st.text(min_size=1), unique=True, max_size=40)


@given(prompts, st.randoms())
def test_order_does_not_matter(names: list[str], random: Any) -> None:
    shuffled = names.copy()
    random.shuffle(shuffled)
    shares = Splits(validation=0.2, test=0.3)
    assert split(rows(names), shares) == split(rows(shuffled), shares)


@given(prompts, prompts)
def test_appending_moves_no_row_between_splits(old: list[str], new: list[str]) -> None:
    shares = Splits(validation=0.2, test=0.3)
    before, after = split(rows(old), shares), split(rows(old + new), shares)
    for name, part in before.items():
        assert all(row in after[name] for row in part)


def test_prompts_that_differ_only_in_case_and_space_share_a_split() -> None:
    twins = [f"What is {i} + {i}?" for i in range(50)]
    parts = split(rows([*twins, *(f"  what IS {i} +  {i}? " for i in range(50))]), Splits(validation=0.2, test=0.3))
    assert all(len(part) % 2 == 0 for part in parts.values())


def test_shares_over_one_are_refused() -> None:
    with pytest.raises(ValueError, match="exceed 1"):
        Splits(validation=0.6, test=0.6)


def test_the_demo_is_distinct_and_the_same_for_the_same_seed() -> None:
    made = generate(Demo(rows=200, seed=1))
    assert len({row["question"] for row in made}) == 200
    assert made == generate(Demo(rows=200, seed=1))
    assert made != generate(Demo(rows=200, seed=2))


def test_more_demo_rows_than_there_are_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"demo\.rows: 10000 distinct rows do not come"):
        generate(Demo(rows=10_000, seed=1))
