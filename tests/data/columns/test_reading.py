"""Records read as rows: cells that are something else, prompts of several columns, and what is not used."""

import json
from typing import Any

import pytest

from tunesmith.data.columns import names
from tunesmith.data.dataset import Dataset, Reading
from tunesmith.data.records import RowError

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ANSWER = {"prompt": TURNS[:1], "completion": TURNS[1:]}
PAIR = {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "b"}]}
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def read(fields: dict[str, Any], *, table: bool = False, **params: Any) -> Reading:
    return Dataset(path="rows.jsonl", **params).to_row(fields, table=table)  # type: ignore[arg-type]


def said(fields: dict[str, Any], **params: Any) -> str:
    return str(read(fields, **params).row["prompt"][-1]["content"])


JSON = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
PYTHON = "[{'content': 'q', 'role': 'user'}, {'content': 'a', 'role': 'assistant'}]"
NUMPY = "array([{'content': 'q', 'role': 'user'},\n       {'content': 'a', 'role': 'assistant'}],\n      dtype=object)"
NAMED = '[{"id": "7", "role": "user", "content": "q"}, {"id": "8", "role": "assistant", "content": "a"}]'
PRINTED = "[{'content': 'q', 'role': 'user'}\n {'content': 'a', 'role': 'assistant'}]"


@pytest.mark.parametrize(
    "text", [JSON, PYTHON, NUMPY, PRINTED, NAMED, f'{{"messages": {JSON}}}', f'{{"conversations": {JSON}}}']
)
@pytest.mark.parametrize("column", ["messages", "conversations", "conversation", "text", "chosen"])
def test_turns_that_a_cell_holds_as_text_are_read_as_turns(text: str, column: str) -> None:
    reading = read({"chosen": text, "rejected": text.replace("'a'", "'b'").replace('"a"', '"b"')} if column == "chosen"
                   else {column: text})  # fmt: skip
    assert reading.row == (PAIR if column == "chosen" else ANSWER)
    assert reading.remarks[0][0] == f"turns written as text in {column!r}, read as turns"


@pytest.mark.parametrize("text", [JSON[:-1], PYTHON[:-4], "[{'role': 'user', 'content': f()}]"])
def test_turns_that_cannot_be_read_back_set_their_row_aside(text: str) -> None:
    with pytest.raises(RowError, match="'completion' begins as a list of turns"):
        read({"prompt": "q", "completion": text})


@pytest.mark.parametrize("text", [json.dumps(JSON), JSON[1:-1].replace("}, {", "}\n{")])
def test_turns_that_were_encoded_twice_or_stand_on_lines_of_their_own_are_read(text: str) -> None:
    assert read({"messages": text}).row == ANSWER


def test_an_answer_in_parts_that_a_cell_holds_as_text_is_their_text() -> None:
    reading = read({"prompt": "q", "completion": '[{"type": "text", "text": "a"}]'})
    assert (reading.row, len(reading.remarks)) == (ANSWER, 1)


@pytest.mark.parametrize(
    ("column", "text", "others", "said"),
    [
        ("history", '[["x", "y"]]', {"answer": "a"}, ["x", "y", "q", "a"]),
        ("history", "[]", {"answer": "a"}, ["q", "a"]),
        ("system", '[{"type": "text", "text": "s"}]', {"answer": "a"}, ["s", "q", "a"]),
        ("system", '{"style": "brief"}', {"answer": "a"}, ['{"style": "brief"}', "q", "a"]),
        ("choices", "['Tin', 'Oak']", {"answer": "B"}, ["q\n\nA. Tin\nB. Oak", "B"]),
        ("images", "[]", {"answer": "a"}, ["q", "a"]),
        ("responses", '["x", "y"]', {"scores": "[1, 2]"}, ["q", "y", "x"]),
    ],
)
def test_a_list_that_a_cell_holds_as_text_is_a_list(
    column: str, text: str, others: dict[str, Any], said: list[str]
) -> None:
    row = read({"question": "q", column: text, **others}).row
    parts = (row["prompt"], row.get("completion", []), row.get("chosen", []), row.get("rejected", []))
    assert [message["content"] for part in parts for message in part] == said


PLAIN = ['{"city": "Porto"}', "[1, 2]", '[{"name": "f"}]', "{'a': 1}", "[done]", '{"value": 3}', '{"from": "Porto"}']


@pytest.mark.parametrize("text", PLAIN)
def test_an_answer_that_happens_to_be_json_stays_text(text: str) -> None:
    assert read({"prompt": "q", "completion": text}).row["completion"][0]["content"] == text


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt": "Translate.", "input": "bird"}, "Translate.\n\nbird"),
        ({"instruction": "In French.", "question": "A bird?"}, "In French.\n\nA bird?"),
        ({"article": "From gate 4.", "question": "Which?"}, "Which?\n\nFrom gate 4."),
        ({"instruction": "Sum up.", "query": "In a line.", "document": "Long."}, "Sum up.\n\nIn a line.\n\nLong."),
        ({"instruction": "", "input": "Name it."}, "Name it."),
        ({"instruction": None, "input": "Name it."}, "Name it."),
        ({"instruction": "Name it.", "input": "<noinput>"}, "Name it."),
        ({"instruction": "Name it.", "input": "nan"}, "Name it."),
        ({"question": "q", "input": "None"}, "q"),
        ({"prompt": "q and more", "question": "q", "input": ""}, "q and more"),
        ({"instruction": "True or false?", "input": "false"}, "True or false?\n\nfalse"),
        ({"instruction": "Say it again:\nbird", "input": "bird"}, "Say it again:\nbird"),
        ({"prompt": "From gate 4. Which?", "context": "From gate 4."}, "From gate 4. Which?"),
        ({"prompt": [{"role": "user", "content": "Translate."}], "context": "fish"}, "Translate.\n\nfish"),
        ({"instruction": "### Instruction:\nTranslate.\n\n### Response:\n", "input": "bird"}, "Translate.\n\nbird"),
        ({"question": "Which?", "choices": ["Tin", "Oak"]}, "Which?\n\nA. Tin\nB. Oak"),
        ({"question": "Which?", "choices": {"text": ["Tin", "Oak"], "label": ["A", "B"]}}, "Which?\n\nA. Tin\nB. Oak"),
        ({"question": "Which?", "A": "Tin", "B": "Oak"}, "Which?\n\nA. Tin\nB. Oak"),
        ({"question": "Which?", "option_A": "Tin", "option_B": "Oak", "option_C": ""}, "Which?\n\nA. Tin\nB. Oak"),
    ],
)
def test_every_column_of_a_prompt_is_in_it(fields: dict[str, Any], prompt: str) -> None:
    for others in ({"output": "x"}, {"answer": "x"}):
        assert said(fields | others) == prompt
    assert said(fields | {"chosen": "x", "rejected": "y"}) == prompt


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "p", "instruction": "i"},
        {"question": "p", "problem": "i"},
        {"question": "q", "context": "c", "article": "another"},
    ],
)
def test_columns_that_may_each_be_the_prompt_ask(fields: dict[str, Any]) -> None:
    with pytest.raises(RowError, match="ambiguous: "):
        read(fields | {"completion": "a"})


def test_an_option_is_answered_by_its_letter() -> None:
    row = read({"question": "Which?", "choices": ["Tin", "Oak"], "answer": 1}).row
    assert (row["completion"][0]["content"], row["choices"]) == ("B", ["Tin", "Oak"])
    row = read({"question": "Which?", "choices": ["Tin", "Oak"], "answer": "1"}, table=True).row
    assert row["completion"][0]["content"] == "B"
    listed = {"question": "Which?\nA. Tin\nB. Oak", "choices": ["Tin", "Oak"], "answer": "B"}
    assert said(listed) == listed["question"]
    with pytest.raises(RowError, match="ambiguous"):
        read({"question": "Which?", "choices": ["2", "0"], "answer": 0})


@pytest.mark.parametrize(
    "history",
    [[["x", "y"]], [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], [{"q": "x", "a": "y"}]],
)
def test_a_history_comes_before_the_prompt(history: Any) -> None:
    row = read({"instruction": "q", "output": "a", "history": history, "system": "s"}).row
    assert [message["content"] for message in row["prompt"]] == ["s", "x", "y", "q"]


@pytest.mark.parametrize(
    "system", ["s", [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}], [{"text": "s"}]]
)
def test_a_system_message_of_any_form_comes_first_and_is_not_another_one(system: Any) -> None:
    assert read({"system": system, "messages": TURNS}).row["prompt"][0] == {"role": "system", "content": "s"}
    with pytest.raises(RowError, match="'system' is not the system message"):
        read({"system": system, "messages": [{"role": "system", "content": "other"}, *TURNS]})


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "b"}}, PAIR),
        ({"messages": TURNS, "rejected_response": "b"}, PAIR),
        ({"query": "q", "response": "a", "rejected_response": "b"}, PAIR),
        *(({"prompt": "q", better: "a", worse: "b"}, PAIR) for better, worse in names.PAIRS),
        ({"messages": TURNS, "rejected_messages": [TURNS[0], {"role": "assistant", "content": "b"}]}, PAIR),
        ({"input": {"messages": TURNS[:1], "tools": [], "parallel_tool_calls": True}, "preferred_output": TURNS[1:],
          "non_preferred_output": [{"role": "assistant", "content": "b"}]}, PAIR),
        ({"instruction": "q", "input": "", "output": ["a", "c", "b"]}, PAIR),
        ({"messages": [{"role": "system", "content": ""}, *TURNS]}, ANSWER),
        ({"messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]}, TURNS[1]]}, ANSWER),
        ({"schemaVersion": "bedrock-conversation-2024", "messages": [
            {"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in TURNS]}, ANSWER),
        ({"instruction": "q", "output": "b", "reflection": "No.", "corrected": "a"},
         {"prompt": [TURNS[0], {**TURNS[1], "content": "b", "train": False}, {"role": "user", "content": "No."}],
          "completion": TURNS[1:]}),
        ({"messages": TURNS[:1], "ground_truth": "4", "dataset": "gsm8k"},
         {"prompt": TURNS[:1], "verifier": "number", "reference": "4"}),
    ],
)  # fmt: skip
def test_layouts_of_other_tools_are_read(fields: dict[str, Any], row: dict[str, Any]) -> None:
    assert read(fields).row == row


def test_a_right_answer_after_a_question_needs_a_verifier() -> None:
    fields = {"messages": TURNS[:1], "ground_truth": "4"}
    with pytest.raises(RowError, match="no verifier"):
        read(fields)
    assert read(fields, verifier="number").row["verifier"] == "number"


@pytest.mark.parametrize(
    "left", [{"passage_of_time": "It was late."}, {"audios": ["a.wav"]}, {"word": "bird"}, {"facets": [{"x": "y"}]}]
)
@pytest.mark.parametrize("fields", [{"prompt": "q", "completion": "a"}, {"messages": TURNS}])
def test_a_column_that_no_part_of_the_row_uses_sets_it_aside(left: dict[str, Any], fields: dict[str, Any]) -> None:
    [name] = left
    with pytest.raises(RowError, match=f"column left out: {name!r}"):
        read(fields | left)
    assert read(fields | left, ignore=[name]).row == ANSWER


@pytest.mark.parametrize(
    "told", [{"id": 7}, {"source": "a book"}, {"length": 8.5}, {"prompt_id": "x"}, {"copy": "a"}, {"n": 3}]
)
def test_what_describes_a_row_or_repeats_it_is_counted(told: dict[str, Any]) -> None:
    [name] = told
    reading = read({"prompt": "q", "completion": "a", **told})
    assert (reading.row, reading.unused) == (ANSWER, [f"column {name!r}"])


def test_what_is_empty_is_not_there() -> None:
    empty = {"images": [], "context": "", "tools": "[]", "word": None, "history": []}
    turn = {**TURNS[1], "reasoning_content": "", "tool_calls": [], "refusal": None, "audio": None, "weight": None}
    assert read({"messages": [TURNS[0], turn], **empty})[1:] == (ANSWER, [], [], [])


def test_fields_that_describe_a_turn_are_counted_and_others_set_the_row_aside() -> None:
    turn = {**TURNS[1], "timestamp": 3}
    assert read({"messages": [TURNS[0], turn]}).unused == ["field 'timestamp' of turns"]
    with pytest.raises(RowError, match="field lost: 'mood' of turn 2"):
        read({"messages": [TURNS[0], {**turn, "mood": "sad"}]})
    reading = read({"messages": [TURNS[0], {**turn, "mood": "sad"}]}, ignore=["mood", "timestamp"])
    assert reading[1:4] == (ANSWER, [], [])


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "N/A", "<NA>"])
def test_a_word_for_nothing_in_a_table_is_nothing(word: str) -> None:
    assert said({"instruction": "q", "input": word, "output": "a"}, table=True) == "q"
    for fields in ({"instruction": word, "output": "a"}, {"instruction": "q", "output": word}):
        with pytest.raises(RowError, match="is a word for nothing"):
            read(fields, table=True)


def test_a_label_that_sounds_like_nothing_is_an_answer_outside_of_tables() -> None:
    reading = read({"question": "Which drug?", "answer": "None"})
    assert reading.row["completion"][0]["content"] == "None"
    assert reading.remarks[0][0] == "'None' in 'answer', which may be a word for nothing"


@pytest.mark.parametrize("word", ["<noinput>", "<NoInput>", "<no_input>", "No input"])
def test_an_input_that_says_that_there_is_none_is_none(word: str) -> None:
    assert said({"instruction": "q", "input": word, "output": "a"}) == "q"


@pytest.mark.parametrize("fields", [{"answers": {"text": ["a"]}}, {"answerKey": "A"}, {"response_a": "x"}])
def test_a_prompt_whose_answer_is_not_recognised_names_the_column_that_may_be_it(fields: dict[str, Any]) -> None:
    [name] = fields
    with pytest.raises(RowError, match=f"a prompt alone.*; {name!r} may"):
        read({"question": "q", "id": 7, **fields})


@pytest.mark.parametrize(("mark", "good"), [({"rejected": True}, False), ({"chosen": True}, True),
                                            ({"is_rejected": "yes"}, False), ({"helpful": "no"}, False)])  # fmt: skip
def test_an_answer_that_a_column_marks_bad_is_none_to_imitate(mark: dict[str, Any], good: bool) -> None:
    fields = {"prompt": "q", "response": "a", **mark}
    assert read(fields).row == ANSWER | {"label": good}
    if not good:
        with pytest.raises(RowError, match="marked bad"):
            read(fields, kind="answers")


@pytest.mark.parametrize("rating", [{"reward": -3.2}, {"scores": {"helpfulness": 1}}])
def test_a_rated_answer_asks_for_the_scale(rating: dict[str, Any]) -> None:
    with pytest.raises(RowError, match="rating without a scale"):
        read({"prompt": "q", "response": "a", **rating})


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("I am {{name}}.", "a placeholder"), (r"first\nsecond", r"\n as two characters"),
        ("I am {name}.", "a placeholder"), ("From [Your Company].", "a placeholder"), ("Hi [NAME]", "a placeholder"),
        ("48 <<48/2=24>>", ""),
        (r"a\r\nb", r"\n as two characters"), (r"Steps:\n1. a", r"\n as two characters"), (r"C:\new", ""),
        ("x = [1, {2}] << 3", ""), ("fine", ""), (r"\neq and $a \neq b$", ""), ("a {{ b", ""), ("line\nand \\n", ""),
    ],
)  # fmt: skip
def test_remains_of_templates_and_exports_are_told(text: str, remark: str) -> None:
    remarks = read({"prompt": "q", "completion": text}).remarks
    assert [name.startswith(remark) for name, _ in remarks] == ([True] if remark else [])
