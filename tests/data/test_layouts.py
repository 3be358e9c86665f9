from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.ready_rows import RowKind
from tunesmith.data import layouts
from tunesmith.data.dataset import Dataset
from tunesmith.data.layouts import recognise
from tunesmith.data.records import RowError

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
ANSWER = {"prompt": TURNS[:1], "completion": TURNS[1:]}
PAIR = {**ANSWER, "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "b"}]}
del PAIR["completion"]


BRIEF = {"role": "system", "content": "Be brief."}


def transcript(*turns: str) -> str:
    return "".join(f"\n\n{'Assistant' if number % 2 else 'Human'}: {turn}" for number, turn in enumerate(turns))


def with_answer(content: str = "b") -> list[dict[str, str]]:
    return [TURNS[0], {"role": "assistant", "content": content}]


@pytest.mark.parametrize(
    ("fields", "kind", "row"),
    [
        ({"prompt": "q", "completion": "a"}, "answers", ANSWER),
        ({"prompt": "q", "response": "a"}, "answers", ANSWER),
        ({"question": "q", "answer": "a", "id": 3}, "answers", ANSWER),
        ({"instruction": "q", "input": "", "output": "a"}, "answers", ANSWER),
        ({"instruction": "q", "input": None, "output": "a"}, "answers", ANSWER),
        ({"instruction": "q", "response": "a", "context": "c"}, "answers",
         {"prompt": [{"role": "user", "content": "q\n\nc"}], "completion": TURNS[1:]}),
        ({"instruction": "q", "input": "c", "output": "a"}, "answers",
         {"prompt": [{"role": "user", "content": "q\n\nc"}], "completion": TURNS[1:]}),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "answers", ANSWER),
        ({"messages": TURNS}, "answers", ANSWER),
        ({"conversations": SHAREGPT}, "answers", ANSWER),
        ({"question": "q", "context": "c", "answer": "a"}, "answers",
         {"prompt": [{"role": "user", "content": "q\n\nc"}], "completion": TURNS[1:]}),
        ({"problem": "q", "solution": "a", "answer": "4"}, "answers", {**ANSWER, "reference": "4"}),
        ({"prompt": "\n\nHuman: q\n\nAssistant:", "completion": " a"}, "answers", ANSWER),
        ({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": " b"}, "preferences", PAIR),
        ({"prompt": "q", "completion": "a", "label": "safe"}, "answers", ANSWER),
        ({"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"}, "answers", ANSWER),
        ({"messages": [*TURNS, *TURNS]}, "answers", {"prompt": [*TURNS, TURNS[0]], "completion": TURNS[1:]}),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preferences", PAIR),
        ({"question": "q", "chosen": "a", "rejected": "b"}, "preferences", PAIR),
        ({"prompt": "q", "chosen": TURNS, "rejected": with_answer()}, "preferences", PAIR),
        ({"chosen": TURNS, "rejected": with_answer()}, "preferences", PAIR),
        ({"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": with_answer()[1:]}, "preferences", PAIR),
        ({"prompt": "q ", "chosen": TURNS, "rejected": with_answer()}, "preferences", PAIR),
        ({"prompt": [BRIEF, TURNS[0]], "chosen": TURNS, "rejected": with_answer()}, "preferences",
         {**PAIR, "prompt": [BRIEF, TURNS[0]]}),
        ({"prompt": [*with_answer("y"), TURNS[0]], "chosen": TURNS, "rejected": with_answer()}, "preferences",
         {**PAIR, "prompt": [*with_answer("y"), TURNS[0]]}),
        ({"instruction": "q", "input": "c", "chosen": "a", "rejected": "b"}, "preferences",
         {**PAIR, "prompt": [{"role": "user", "content": "q\n\nc"}]}),
        ({"chosen": transcript("q", "a"), "rejected": transcript("q", "b")}, "preferences", PAIR),
        ({"chosen": transcript("x", "y", "q", "a"), "rejected": transcript("x", "y", "q", "b")}, "preferences",
         {**PAIR, "prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, TURNS[0]]}),
        ({"prompt": "q", "answer": "a", "verifier": "number"}, "scored",
         {"prompt": TURNS[:1], "verifier": "number", "reference": "a"}),
        ({"key": 1, "prompt": "q", "instruction_id_list": ["i"], "kwargs": [{}]}, "scored",
         {"prompt": TURNS[:1], "verifier": "instructions", "instructions": ["i"], "settings": [{}]}),
        ({"prompt": "q", "label": "unsafe", "type": "t"}, "scored",
         {"prompt": TURNS[:1], "verifier": "refusal", "label": "unsafe"}),
        ({"task_id": "1", "prompt": "q", "canonical_solution": "a", "test": "t", "entry_point": "f"}, "scored",
         {"prompt": TURNS[:1], "verifier": "code", "reference": "a", "test": "t", "entry_point": "f"}),
    ],
)  # fmt: skip
def test_a_common_layout_becomes_a_ready_row(fields: dict[str, Any], kind: RowKind, row: dict[str, Any]) -> None:
    layout = recognise(fields)
    assert layout is not None
    assert layout.kind == kind
    assert layout.to_row(fields) == row


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": "q"}, "a prompt alone"),
        ({"question": "q", "answer": None}, "a prompt alone"),
        ({"text": "Once upon a time."}, "does not mark its speakers"),
    ],
)
def test_a_layout_that_cannot_train_is_recognised_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    layout = recognise(fields)
    assert layout is not None
    assert layout.kind is None
    with pytest.raises(RowError, match=f"not trainable: .*{reason}"):
        layout.to_row(fields)


def test_an_unknown_layout_is_not_guessed() -> None:
    assert recognise({"foo": "q", "bar": "a"}) is None


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"prompt": "q", "completion": " "}, "answers", "empty completion"),
        ({"messages": []}, "answers", "missing turns"),
        ({"messages": [*TURNS, TURNS[0]]}, "answers", "no assistant at the end: the last turn is the user's"),
        ({"messages": [TURNS[1]]}, "answers", "empty prompt"),
        ({"messages": [TURNS[0], TURNS[0], TURNS[1]]}, "answers", "wrong role order"),
        ({"prompt": "q", "completion": [TURNS[1], TURNS[0], TURNS[1]]}, "answers", "several assistant turns"),
        ({"question": "q", "choices": "a or b", "answer": "a"}, "answers", "column left out: 'choices'"),
        ({"question": "q", "context": ["c"], "answer": "a"}, "answers", "column left out: 'context'"),
        ({"prompt": "\u200b", "completion": "a"}, "answers", "empty prompt"),
        ({"prompt": "q", "completion": "\ufeff"}, "answers", "empty completion"),
        ({"prompt": "q", "chosen": "a", "rejected": "a "}, "preferences", "chosen equals rejected"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "preferences", "chosen equals rejected"),
        ({"chosen": "a", "rejected": "b"}, "preferences", "missing field: no prompt"),
        ({"chosen": transcript("q", "a"), "rejected": transcript("p", "b")}, "preferences", "different prompts"),
        ({"prompt": "p", "chosen": TURNS, "rejected": with_answer()}, "preferences", "different prompts"),
        ({"chosen": transcript("q", "a"), "rejected": transcript("q")}, "preferences", "no assistant at the end"),
        ({"chosen": transcript("q", "a", "p", "c"), "rejected": transcript("q", "b", "p", "d")}, "preferences",
         "several assistant turns"),
        ({"chosen": transcript("q", " "), "rejected": transcript("q", "b")}, "preferences", "empty completion: chosen"),
        ({"prompt": "q", "instruction_id_list": ["i"], "kwargs": []}, "scored", "wrong type"),
        ({"prompt": "q", "answer": "a", "verifier": 3}, "scored", "wrong type: the verifier"),
    ],
)  # fmt: skip
def test_a_row_of_a_known_layout_can_still_be_bad(fields: dict[str, Any], kind: RowKind, reason: str) -> None:
    layout = recognise(fields, kind)
    assert layout is not None
    with pytest.raises(RowError) as error:
        layout.to_row(fields)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"question": "q"}, "answers", "missing field: no 'answer'; the row has 'question'"),
        ({"prompt": "q", "chosen": "a"}, "preferences", "missing field: no 'rejected'; the row has 'prompt', 'chosen'"),
        ({"text": "Once upon a time."}, "answers", "no turns"),
        ({"prompt": "q", "label": "safe"}, "answers", "wrong kind: a prompt marked safe or unsafe to answer"),
        ({"foo": 1}, "answers", "unknown layout: the row has 'foo'"),
        ({}, "answers", "unknown layout: the row has nothing"),
        ({"prompt": "q", "completion": "a"}, "preferences", "wrong kind: a prompt with one right answer, among rows"),
        ({"chosen": "a", "rejected": "b"}, "answers", "wrong kind: a prompt with a better and a worse answer"),
    ],
)
def test_the_error_names_the_columns_that_a_row_lacks(fields: dict[str, Any], kind: RowKind, reason: str) -> None:
    assert recognise(fields, kind) is None
    assert str(layouts.unrecognised(fields, kind)).startswith(reason)


SIDES = {"prompt": "q", "chosen": "a", "rejected": "b"}
RATING = "rating without a scale: the answer is rated"
NEUTRAL = "neutral rating"


@pytest.mark.parametrize(
    ("mark", "good"),
    [
        ({"label": True}, True),
        ({"label": 0}, False),
        ({"label": "False"}, False),
        ({"kto_tag": 1.0}, True),
        ({"thumbs": "up"}, True),
        ({"thumbs": " Down "}, False),
        ({"feedback": "👎"}, False),
        ({"feedback": {"comment": "Too long.", "thumbs_up": False}}, False),
        ({"thumbs_down": True}, False),
        ({"thumbs_up": False}, False),
        ({"vote": -1}, False),
        ({"status": "rejected"}, False),
        ({"is_correct": "no"}, False),
        ({"upvotes": 3, "downvotes": 7}, False),
        ({"thumbs_up": 0, "thumbs_down": 0}, NEUTRAL),
        ({"rating": 1}, RATING),
        ({"score": 0}, RATING),
        ({"helpfulness": 4, "verbosity": 0}, RATING),
        ({"stars": "4.5"}, RATING),
        ({"label": None, "thumbs": "up"}, True),
        ({"label": "positive news"}, None),
        ({"label": 3}, None),
        ({"score": float("nan")}, None),
        ({"feedback": "Nice, but too long."}, None),
    ],
)
@pytest.mark.parametrize("answer", [{"prompt": "q", "response": "a"}, {"messages": TURNS}], ids=["columns", "chat"])
def test_a_marked_answer_is_never_learnt_as_it_is(
    answer: dict[str, Any], mark: dict[str, Any], good: bool | str | None
) -> None:
    fields = answer | mark
    marks, answers = (Dataset(path=Path("rows"), kind=kind) for kind in (None, "answers"))
    if isinstance(good, str):
        for dataset in (marks, answers):
            with pytest.raises(RowError, match=good):
                dataset.to_row(fields)
        return
    assert marks.to_row(fields)[1] == (ANSWER if good is None else ANSWER | {"label": good})
    if good is False:
        with pytest.raises(RowError, match="marked bad"):
            answers.to_row(fields)
    else:
        assert answers.to_row(fields)[1] == ANSWER
    if good is None:
        with pytest.raises(RowError, match="among rows of kind marks"):
            Dataset(path=Path("rows"), kind="marks").to_row(fields)


@pytest.mark.parametrize(("rating", "good"), [(4, True), ("3.5", True), (1, False), (0, False), (3, NEUTRAL)])
def test_ratings_are_marks_around_the_neutral_one(rating: object, good: bool | str) -> None:
    rows = Dataset(path=Path("rows"), neutral_rating=3)
    fields = {"prompt": "q", "completion": "a", "rating": rating}
    if isinstance(good, str):
        with pytest.raises(RowError, match=good):
            rows.to_row(fields)
    else:
        assert rows.to_row(fields)[1]["label"] is good


def test_a_mark_can_be_named() -> None:
    columns: Any = {"prompt": "ask", "completion": "said", "label": "ok"}
    rows = Dataset(path=Path("rows"), columns=columns)
    assert rows.to_row({"ask": "q", "said": "a", "ok": 0})[1] == ANSWER | {"label": False}
    del columns["label"]
    assert Dataset(path=Path("rows"), columns=columns).to_row({"ask": "q", "said": "a", "score": 0})[1] == ANSWER


@pytest.mark.parametrize(
    ("fields", "kind", "row"),
    [
        ({"prompt": "q", "responses": ["c", "a", "b"], "scores": [3, 5, 1]}, None, PAIR),
        ({"prompt": "q", "outputs": [{"text": "b", "score": 2.5}, {"text": "a", "score": "9"}]}, None, PAIR),
        ({"prompt": "q", "answers": [{"answer": "b", "rank": 3}, {"answer": "a", "rank": 1}]}, None, PAIR),
        ({"prompt": "q", "ranked_responses": ["a", "c", "b"]}, None, PAIR),
        ({"prompt": "q", "answers": ["a", "b"]}, None, "no layout"),
        ({"prompt": "q", "responses": ["a", "b"], "scores": [3, 3]}, None, "equal ratings"),
        (SIDES | {"score_chosen": 4, "score_rejected": 4}, None, "equal ratings"),
        (SIDES | {"score_chosen": 2, "score_rejected": 9}, None, "rated the other way"),
        (SIDES | {"score_chosen": 9, "score_rejected": 2}, None, PAIR),
        ({"prompt": "q", "draft": "b", "correction": "a"}, None, ANSWER),
        ({"prompt": "q", "response": "b", "edited_response": "a"}, None, ANSWER),
        ({"prompt": "q", "response": "b", "edited_response": "a"}, "preferences", PAIR),
    ],
)  # fmt: skip
def test_lists_of_ratings_and_corrections_teach_the_better_answer(
    fields: dict[str, Any], kind: RowKind | None, row: dict[str, Any] | str
) -> None:
    rows = Dataset(path=Path("rows"), kind=kind)
    if row == "no layout":
        assert recognise(fields) is None or recognise(fields).kind is None  # type: ignore[union-attr]
    elif isinstance(row, str):
        with pytest.raises(RowError, match=row):
            rows.to_row(fields)
    else:
        assert rows.to_row(fields)[1] == row
