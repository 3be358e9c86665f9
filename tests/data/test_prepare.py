import json
import math
import random
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import data_sets as data
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.core.errors import DataError
from tunesmith.data import parallel, prepare
from tunesmith.data.prepare import CheckedRows


@pytest.fixture
def stack() -> Any:
    with ExitStack() as opened:
        yield opened


def good(count: int) -> list[dict[str, Any]]:
    return [{"question": f"what is {i}", "answer": str(i)} for i in range(count)]


def set_aside(rows: CheckedRows) -> list[tuple[int, str]]:
    return [(problem.line, problem.check) for problem in rows.problems]


def written(rows: CheckedRows, dataset: Any, folder: Path) -> dict[str, bytes]:
    files = {}
    for name, positions in prepare.select(rows, dataset).items():
        prepare.write(folder / name, rows, positions)
        files[name] = (folder / name).read_bytes()
    return files


def test_a_row_becomes_messages_with_a_stable_id(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", [{"question": "2 + 2", "answer": 4}])
    [row] = data.good_rows(data.check(stack, data.dataset(path, system="Be brief.")))
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2"}]
    assert row["completion"] == [{"role": "assistant", "content": "4"}]
    [again] = data.good_rows(data.check(stack, data.dataset(path, system="Be brief.")))
    assert row["id"] == again["id"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"q": "x"}, "missing field: no value in 'a'"),
        ({"q": None, "a": "x"}, "missing field: no value in 'q'"),
        ({"q": " \n", "a": "x"}, "empty prompt: 'prompt' holds only space"),
        ({"q": "x", "a": ""}, "empty completion: 'completion' holds only space"),
        ({"q": "x", "a": {"y": 1}}, "wrong type: 'completion' is dict, not text"),
        ({"q": "x", "a": True}, "wrong type: 'completion' is bool, not text"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(
    tmp_path: Path, stack: ExitStack, fields: dict[str, Any], reason: str
) -> None:
    path = data.write(tmp_path / "a.jsonl", [{"q": "fine", "a": "fine"}, fields])
    checked = data.check(stack, data.dataset(path, columns={"prompt": "q", "completion": "a"}))
    assert [(problem.line, problem.reason) for problem in checked.problems] == [(2, reason)]


@pytest.mark.parametrize(
    ("value", "check"), [(math.nan, "missing field"), (math.inf, "wrong type"), (date(2024, 1, 1), "wrong type")]
)
def test_a_table_value_that_is_not_text_is_set_aside(tmp_path: Path, stack: ExitStack, value: Any, check: str) -> None:
    rows = [{"prompt": "x", "completion": value}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=check):
        data.check(stack, data.dataset(tmp_path / "bad.parquet"))


def test_too_many_bad_rows_raise_an_error_that_lists_the_first(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", [*good(8), "{", "["])
    with pytest.raises(DataError) as error:
        data.check(stack, data.dataset(path, max_bad_share=0.1))
    assert "2 of 10 rows are bad" in str(error.value)
    assert f"{path}:9: not JSON" in str(error.value)


def test_a_file_without_a_good_row_is_an_error_at_any_allowed_share(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", ["{", "["])
    with pytest.raises(DataError, match="not one of 2 rows is good"):
        data.check(stack, data.dataset(path, max_bad_share=1.0))


def test_duplicates_are_set_aside_but_are_not_bad(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", good(5) * 3)
    checked = data.check(stack, data.dataset(path, max_bad_share=0))
    assert len(checked.index) == 5
    assert set_aside(checked) == [(line, "exact duplicate") for line in range(6, 16)]
    assert checked.problems[0].reason == "exact duplicate: of line 1"
    assert json.loads(checked.problems[0].raw) == good(1)[0]


def test_a_copy_of_an_evaluation_set_is_an_error(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", good(5))
    copy = data.write(tmp_path / "copy.jsonl", good(5))
    with pytest.raises(DataError, match="not one of 5 rows is good"):
        data.check(stack, data.dataset(path, held_out={"path": copy, "overlap": 0.7}, max_bad_share=0))


def test_contradicting_answers_are_all_set_aside(tmp_path: Path, stack: ExitStack) -> None:
    rows = [*good(5), {"question": "what is 3", "answer": "4"}]
    path = data.write(tmp_path / "a.jsonl", rows)
    assert set_aside(data.check(stack, data.dataset(path))) == [(4, "conflicting answers"), (6, "conflicting answers")]
    assert set_aside(data.check(stack, data.dataset(path, one_answer=False))) == []


def test_a_question_that_differs_in_a_letter_is_another_question(tmp_path: Path, stack: ExitStack) -> None:
    rows = [{"question": f"code of {letter}?", "answer": str(ord(letter))} for letter in "aA²2"]
    assert set_aside(data.check(stack, data.dataset(data.write(tmp_path / "a.jsonl", rows)))) == []


def test_many_answers_to_one_prompt_take_linear_time(tmp_path: Path, stack: ExitStack) -> None:
    rows = [{"question": "q", "answer": f"way {i} #### 7"} for i in range(3000)]
    path = data.write(tmp_path / "a.jsonl", rows)
    assert set_aside(data.check(stack, data.dataset(path, verifier="number"))) == []


def test_answers_that_a_verifier_finds_equal_do_not_contradict(tmp_path: Path, stack: ExitStack) -> None:
    rows = [{"question": "how many", "answer": "it is #### 1,000"}, {"question": "how many", "answer": "1000.0"}]
    path = data.write(tmp_path / "a.jsonl", rows)
    assert set_aside(data.check(stack, data.dataset(path, verifier="number"))) == []


def test_pairs_contradict_only_where_one_prefers_the_reverse(tmp_path: Path, stack: ExitStack) -> None:
    pairs = [("a", "b"), ("a", "c"), ("b", "a"), ("c", "d")]
    rows = [{"prompt": "x", "chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    path = data.write(tmp_path / "a.jsonl", rows)
    checked = data.check(stack, data.dataset(path, kind="preferences"))
    assert set_aside(checked) == [(1, "conflicting answers"), (3, "conflicting answers")]


def test_the_same_question_to_another_persona_does_not_contradict_and_shares_a_split(
    tmp_path: Path, stack: ExitStack
) -> None:
    rows = [
        {"messages": [{"role": "system", "content": system}, {"role": "user", "content": f"who is {i}"},
                      {"role": "assistant", "content": f"{system} {i}"}]}
        for i in range(30) for system in ("terse", "florid")
    ]  # fmt: skip
    dataset = data.dataset(data.write(tmp_path / "a.jsonl", rows))
    checked = data.check(stack, dataset)
    assert set_aside(checked) == []
    for positions in prepare.select(checked, dataset).values():
        questions = [checked.row(int(position))["prompt"][-1]["content"] for position in positions]
        assert all(questions.count(question) == 2 for question in questions)


def test_a_file_of_a_header_alone_has_no_rows(tmp_path: Path, stack: ExitStack) -> None:
    (tmp_path / "rows.csv").write_text("question,answer\n")
    with pytest.raises(DataError, match="no rows"):
        data.check(stack, data.dataset(tmp_path / "rows.csv"))


def test_the_error_of_a_missing_column_lists_the_columns_that_exist(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", good(2))
    with pytest.raises(DataError) as error:
        data.check(stack, data.dataset(path, columns={"prompt": "q", "completion": "answer"}))
    assert "no column 'q'; there is 'answer', 'question'" in str(error.value)


def test_a_template_makes_a_column_from_other_columns(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", [{"q": "2 + 2", "work": "count", "r": 4}, {"q": "1 + 1", "r": 2}])
    columns = {"prompt": "q", "completion": "{{ work }}\n#### {{ r }}"}
    checked = data.check(stack, data.dataset(path, columns=columns))
    assert [row["completion"][0]["content"] for row in data.good_rows(checked)] == ["count\n#### 4"]
    assert checked.problems[0].reason == "template failed: data.<dataset>.columns.completion: 'work' is undefined"


def test_a_template_cannot_reach_into_python(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", [{"q": "x"}])
    columns = {"prompt": "q", "completion": "{{ q.__class__.__mro__ }}"}
    with pytest.raises(DataError, match=r"template failed.*unsafe"):
        data.check(stack, data.dataset(path, columns=columns))


def test_a_system_column_becomes_a_system_message_in_every_layout(tmp_path: Path, stack: ExitStack) -> None:
    rows: list[Any] = [
        {"system": "s", "question": "q1", "answer": "a"},
        {"system_prompt": "s", "question": "q2", "response": "a"},
        {"system": "s", "conversations": [{"from": "human", "value": "q3"}, {"from": "gpt", "value": "a"}]},
    ]
    for columns in (None, {"prompt": "question", "completion": "answer", "system": "system"}):
        path = data.write(tmp_path / "a.jsonl", rows if columns is None else rows[:1])
        for row in data.good_rows(data.check(stack, data.dataset(path, columns=columns))):
            assert row["prompt"][0] == {"role": "system", "content": "s"}
            assert row["prompt"][1]["content"].startswith("q")


@pytest.mark.parametrize(
    "template", ["{{ q|dictsort }}", "{{ '{0} {1}'.format(q) }}", "{{ '\\ud800' }}", "{{ 1 / 0 }}"]
)
def test_a_template_that_fails_costs_only_its_row(tmp_path: Path, stack: ExitStack, template: str) -> None:
    path = data.write(tmp_path / "a.jsonl", [{"q": "x", "fine": True}, {"q": "y", "fine": False}])
    columns = {"prompt": "q", "completion": "{% if fine %}yes{% else %}" + template + "{% endif %}"}
    assert set_aside(data.check(stack, data.dataset(path, columns=columns))) == [(2, "template failed")]


def test_integers_of_any_size_survive(tmp_path: Path, stack: ExitStack) -> None:
    tool = {"name": "f", "parameters": {"maximum": 10**30}}
    row = {"prompt": "q", "completion": "a", "tools": [tool]}
    path = data.write(tmp_path / "a.jsonl", [row, {**row, "prompt": " "}])
    checked = data.check(stack, data.dataset(path))
    assert data.good_rows(checked)[0]["tools"][0]["function"] == tool
    assert str(10**30) in checked.problems[0].raw


def test_a_limit_caps_the_rows_of_its_split(tmp_path: Path, stack: ExitStack) -> None:
    path = data.write(tmp_path / "a.jsonl", good(100))
    dataset = data.dataset(path, limit={"train": 10, "validation": None, "test": 0})
    selected = prepare.select(data.check(stack, dataset), dataset)
    assert (len(selected["train"]), len(selected["test"])) == (10, 0)


def test_many_processes_write_the_same_bytes_as_one(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"what is {i} " + "so " * 300, "answer": str(i)} for i in range(6000)]
    lines: list[Any] = [*rows, *rows[:5], "broken"]
    dataset = data.dataset(data.write(tmp_path / "a.jsonl", lines), near_duplicates=0.999)
    monkeypatch.setattr(parallel, "FEW", 10**9)
    alone = data.check(stack, dataset)
    monkeypatch.setattr(parallel, "FEW", 2)
    together = data.check(stack, dataset)
    assert [values(problem) for problem in alone.problems] == [values(problem) for problem in together.problems]
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert written(alone, dataset, tmp_path / "1") == written(together, dataset, tmp_path / "2")


def values(problem: Any) -> tuple[int, str, str]:
    return problem.line, problem.reason, problem.raw


prompts = st.lists(st.text("abcdefgh", min_size=1), unique=True, min_size=1, max_size=30)


def split_of_each(folder: Path, names: list[str]) -> dict[str, str]:
    rows = [{"prompt": name, "completion": "x"} for name in names]
    dataset = data.dataset(data.write(folder / "a.jsonl", rows))
    with ExitStack() as stack:
        checked = data.check(stack, dataset)
        return {
            checked.row(int(position))["prompt"][0]["content"]: split
            for split, positions in prepare.select(checked, dataset).items()
            for position in positions
        }


@settings(max_examples=30)
@given(prompts, st.randoms())
def test_the_order_of_rows_does_not_change_their_splits(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], random: Any
) -> None:
    folder = tmp_path_factory.mktemp("split")
    shuffled = names.copy()
    random.shuffle(shuffled)
    before, after = split_of_each(folder, names), split_of_each(folder, shuffled)
    assert list(before.items()) == list(after.items())


@settings(max_examples=30)
@given(prompts, prompts)
def test_appending_moves_no_row_between_splits(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("split")
    before, after = split_of_each(folder, old), split_of_each(folder, old + [name for name in new if name not in old])
    assert all(after[name] == split for name, split in before.items())


def conversation(number: int, turns: int) -> list[dict[str, str]]:
    said = [(f"[{number}] Question {turn} about the {number} trains", f"Answer {turn}") for turn in range(turns)]
    return [
        message
        for question, answer in said
        for message in ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    ]


def splits_of(checked: CheckedRows, dataset: Any) -> dict[str, set[str]]:
    """The splits that the first turns' opening words, or the ids of customers, are in."""
    found: dict[str, set[str]] = {}
    for split, positions in prepare.select(checked, dataset).items():
        for position in positions:
            found.setdefault(checked.row(int(position))["prompt"][0]["content"].split()[0], set()).add(split)
    return found


def test_rows_of_one_conversation_share_a_split_however_long_each_is(tmp_path: Path, stack: ExitStack) -> None:
    rows = [{"messages": conversation(number, turns)} for number in range(40) for turns in (1, 2, 3, 4)]
    dataset = data.dataset(data.write(tmp_path / "a.jsonl", rows), one_answer=False)
    found = splits_of(data.check(stack, dataset), dataset)
    assert len(found) == 40
    assert all(len(splits) == 1 for splits in found.values())
    assert set.union(*found.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize("group", ["customer", "{{ customer }}/{{ shop }}"])
def test_rows_of_one_group_share_a_split(tmp_path: Path, stack: ExitStack, group: str) -> None:
    rows = [
        {"question": f"{customer} asks {i}", "answer": "x", "customer": customer, "shop": 1}
        for customer in range(40)
        for i in range(5)
    ]
    dataset = data.dataset(data.write(tmp_path / "a.jsonl", rows), group=group)
    found = splits_of(data.check(stack, dataset), dataset)
    assert len(found) == 40
    assert all(len(splits) == 1 for splits in found.values())


def test_a_row_without_its_group_is_set_aside_and_a_column_that_no_row_has_is_an_error(
    tmp_path: Path, stack: ExitStack
) -> None:
    rows = [{"question": "a", "answer": "x", "customer": 1}, {"question": "b", "answer": "x", "customer": None}]
    path = data.write(tmp_path / "a.jsonl", rows)
    checked = data.check(stack, data.dataset(path, group="customer"))
    assert [(problem.line, problem.reason) for problem in checked.problems] == [
        (2, "missing field: no value in 'customer' (data.<dataset>.group)")
    ]
    with pytest.raises(DataError, match="no column 'client'"):
        data.check(stack, data.dataset(path, group="client"))


def test_a_near_copy_of_a_test_row_is_not_trained_unless_params_say_so(tmp_path: Path, stack: ExitStack) -> None:
    """Each conversation is there twice; the copy's first turn is edited, and so it may be in another split."""
    rng = random.Random(1)
    told = [" ".join(f"word{rng.randrange(10**5)}" for _ in range(40)) for _ in range(60)]
    instruction = "Read the whole letter of the customer below with care, and say in one word what the customer wants. "
    rows = [
        {"question": f"{instruction}{start} {i} {text}", "answer": "x"}
        for i, text in enumerate(told)
        for start in ("Hello", "HELLO there!")
    ]
    path = data.write(tmp_path / "a.jsonl", rows)
    kept = data.check(stack, data.dataset(path, near_copies=None))
    checked = data.check(stack, dataset := data.dataset(path))
    assert len(kept.index) == 120
    assert {problem.check for problem in checked.problems} == {prepare.NEAR_COPY}

    def texts(rows: CheckedRows, *names: str) -> list[str]:
        chosen = prepare.select(rows, dataset)
        return [
            rows.row(int(position))["prompt"][0]["content"].split()[-1] for name in names for position in chosen[name]
        ]

    assert set(texts(kept, "train")) & set(texts(kept, "validation", "test"))
    assert not set(texts(checked, "train")) & set(texts(checked, "validation", "test"))
    assert sorted(texts(checked, "validation", "test")) == sorted(texts(kept, "validation", "test"))
    assert set(texts(kept, "train")) - set(texts(checked, "train")) <= set(texts(kept, "validation", "test"))


def test_prompts_that_differ_only_in_case_and_space_share_a_split(tmp_path: Path) -> None:
    names = [name for i in range(50) for name in (f"What is {i} + {i}?", f"  what IS {i} +  {i}? ")]
    split = split_of_each(tmp_path, names)
    assert len(split) == 100
    assert all(split[names[2 * i]] == split[names[2 * i + 1]] for i in range(50))


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "prompt completion chosen rejected messages conversations text question answer instruction input output label "
    "verifier role content from value system"
)
columns = st.sampled_from(NAMES.split())
roles = st.sampled_from(["user", "assistant", "system", "tool", "x"])
turn = st.fixed_dictionaries({"role": roles, "content": anything})
rows = st.lists(st.dictionaries(columns, anything | st.lists(turn, max_size=4), max_size=5), min_size=1, max_size=5)


@settings(max_examples=200)
@given(rows, st.sampled_from(["answers", "preferences", "scored"]))
def test_no_row_crashes_the_preparation_and_kept_rows_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = data.dataset(path, kind=kind, max_bad_share=1, near_duplicates=0.9)
    with ExitStack() as stack:
        try:
            checked = data.check(stack, dataset)
        except DataError:  # no row is good
            return
        assert checked.total == len(rows)
        kept = sorted(checked.read(position) for position in range(len(checked.index)))
        lines = b"".join(written(checked, dataset, folder).values()).splitlines(keepends=True)
        assert sorted(lines) == kept


def test_shares_over_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exceed 1"):
        data.dataset(tmp_path, splits={"validation": 0.6, "test": 0.6})


def test_rows_that_repeat_another_name_it_and_its_text_is_kept(tmp_path: Path, stack: ExitStack) -> None:
    story = {"question": "Tell me of a fox, a hen and the long way to Bremen, in the winter", "answer": "Once. " * 9}
    near = {**story, "question": story["question"] + "time"}
    path = data.write(tmp_path / "a.jsonl", [*good(5), good(5)[0], story, near, good(5)[0]])
    checked = data.check(stack, data.dataset(path, near_duplicates=0.8))
    assert [(problem.line, problem.repeated) for problem in checked.problems] == [
        (6, (path, 1)),
        (8, (path, 7)),
        (9, (path, 1)),
    ]
    lines = path.read_text().splitlines()
    assert checked.repeated == {(path, 1): lines[0], (path, 7): lines[6]}  # the one that more rows repeat first


def test_rows_that_contradict_each_other_repeat_none(tmp_path: Path, stack: ExitStack) -> None:
    rows = [*good(5), {"question": "what is 1", "answer": "another"}]
    checked = data.check(stack, data.dataset(data.write(tmp_path / "a.jsonl", rows)))
    assert [(problem.check, problem.repeated) for problem in checked.problems] == [("conflicting answers", None)] * 2
    assert checked.repeated == {}


def test_the_text_of_few_repeated_rows_is_kept(tmp_path: Path, stack: ExitStack) -> None:
    checked = data.check(stack, data.dataset(data.write(tmp_path / "a.jsonl", good(30) * 2)))
    assert len(checked.problems) == 30
    assert len(checked.repeated) == prepare.MOST_REPEATED


def test_near_copies_of_held_out_rows_name_them(tmp_path: Path, stack: ExitStack) -> None:
    words = [f"word{number}" for number in range(60)]
    texts = [" ".join(random.Random(number // 2).sample(words, 60)) + f" {number}" for number in range(60)]
    path = data.write(tmp_path / "a.jsonl", [{"question": text, "answer": "yes"} for text in texts])
    checked = data.check(stack, data.dataset(path))
    copies = [problem for problem in checked.problems if problem.check == prepare.NEAR_COPY]
    assert copies
    for copy in copies:
        assert copy.repeated == (path, copy.line + 1 if copy.line % 2 else copy.line - 1)
        assert copy.reason.endswith(f"runs of line {copy.repeated[1]}'s prompt")
