"""The checks of single rows, most of all those that need the base model: lengths, tools, refusals of its template."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import data_sets as data
import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Conversation
from tunesmith.data.lengths import Lengths
from tunesmith.data.personal.rows import quarantine
from tunesmith.models.base import base_tokenizer

CALL = {"type": "function", "id": "1", "function": {"name": "add", "arguments": {"a": 2}}}
TOOLED = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "4", "tool_call_id": "1"},
    {"role": "assistant", "content": "It is 4."},
]
FINE = {"question": "fine?", "answer": "yes"}


def lengths(tokenizer: PreTrainedTokenizerFast, *, context: int = 400, tools: bool = True) -> Lengths:
    return Lengths(base_tokenizer.Counter(tokenizer), context, tools, definitions=tools)


def reasons(path: Path, lengths: Lengths | None, **changes: Any) -> list[str]:
    with ExitStack() as stack:
        return [problem.reason for problem in data.check(stack, data.dataset(path, **changes), lengths).problems]


def test_a_row_that_is_too_long_is_set_aside_with_its_tokens(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [FINE, {**FINE, "answer": "y" * 120}, {**FINE, "question": "q" * 100}, {**FINE, "question": "q" * 500}]
    path = data.write(tmp_path / "a.jsonl", rows)
    set_aside = reasons(path, lengths(tokenizer), max_length=100, max_bad_share=0.9)
    counts = base_tokenizer.Counter(tokenizer)
    asked = Conversation([{"role": "user", "content": "fine?"}], [{"role": "assistant", "content": "y" * 120}])
    [[prompt, *_], [completion, *_]] = counts([asked])
    assert set_aside[0] == f"completion cut: its last {prompt + completion - 100} of {completion} tokens are beyond 100"
    assert set_aside[1].startswith("completion lost: the prompt's")
    assert set_aside[2].startswith("prompt fills the context:")


def test_the_models_context_is_the_default_limit(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    path = data.write(tmp_path / "a.jsonl", [FINE, {**FINE, "answer": "y" * 500}])
    assert reasons(path, lengths(tokenizer))[0].endswith("tokens are beyond 400")


def test_tool_turns_are_kept_whole_or_refused_with_a_reason(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    path = data.write(tmp_path / "a.jsonl", [FINE, {"messages": TOOLED}])
    assert reasons(path, lengths(tokenizer, tools=False)) == [
        "tool turn: the base model's chat template does not write it, so it would be lost"
    ]
    with ExitStack() as stack:
        rows = data.good_rows(data.check(stack, data.dataset(path), lengths(tokenizer, tools=True)))
    assert rows[1]["prompt"][1] == {"role": "assistant", "content": "", "tool_calls": [CALL], "train": True}
    assert rows[1]["prompt"][2] == {"role": "tool", "content": "4", "tool_call_id": "1"}


def test_a_system_message_that_the_template_leaves_out_sets_its_row_aside(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    path = data.write(tmp_path / "a.jsonl", [FINE, {**FINE, "system": "s"}])
    [reason] = reasons(path, replace(lengths(tokenizer), system=False))
    assert reason.startswith("system message: the base model's chat template does not write it")


@pytest.mark.parametrize("refused", [True, False])
def test_where_the_template_takes_no_system_message_that_of_params_yaml_is_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, refused: bool
) -> None:
    if refused:
        refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        tokenizer.chat_template = refuse + str(tokenizer.chat_template)
    unwritten = replace(lengths(tokenizer), system=refused)
    with pytest.raises(DataError) as error:
        reasons(data.write(tmp_path / "a.jsonl", [FINE]), unwritten, system="Be brief.")
    assert "remove data.<dataset>.system" in str(error.value)


def test_a_conversation_that_the_template_refuses_costs_only_its_row(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    tokenizer.chat_template = refuse + str(tokenizer.chat_template)
    with_system = {"messages": [{"role": "system", "content": "s"}, *TOOLED[:1], TOOLED[-1]]}
    path = data.write(tmp_path / "a.jsonl", [FINE, with_system, {**FINE, "question": "also fine?"}])
    [reason] = reasons(path, lengths(tokenizer))
    assert reason.startswith("refused by the chat template:")
    assert "no system here" in reason


def test_a_preference_is_as_long_as_its_longer_answer(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b" * 200}, {"prompt": "p", "chosen": "a", "rejected": "b"}]
    path = data.write(tmp_path / "a.jsonl", rows)
    [reason] = reasons(path, lengths(tokenizer), kind="preferences", max_length=100)
    assert reason.startswith("completion cut")


def test_an_answer_that_its_verifier_does_not_accept_is_set_aside(tmp_path: Path) -> None:
    path = data.write(tmp_path / "a.jsonl", [{**FINE, "answer": "#### 4"}, FINE])
    with ExitStack() as stack:
        [problem] = data.check(stack, data.dataset(path, verifier="number")).problems
    assert problem.reason.startswith("answer not right by its own verifier: number: the reference has no number")


def test_answers_can_be_scored_prompts_where_a_verifier_is_named(tmp_path: Path) -> None:
    path = data.write(tmp_path / "a.jsonl", [{**FINE, "answer": "#### 4"}])
    with ExitStack() as stack:
        [row] = data.good_rows(data.check(stack, data.dataset(path, kind="scored", verifier="number")))
    assert {**row, "id": ""} == {
        "id": "",
        "prompt": [{"role": "user", "content": "fine?"}],
        "verifier": "number",
        "reference": "#### 4",
    }


def test_a_worked_solution_must_agree_with_its_answer(tmp_path: Path) -> None:
    rows = [{"problem": "6 * 7?", "solution": f"It is {n}", "answer": "42"} for n in (42, 41)]
    path = data.write(tmp_path / "a.jsonl", rows)
    [reason] = reasons(path, None, verifier="number")
    assert reason == "answer not right by its own verifier: number: 41 is not 42"


def test_secrets_are_masked_in_quarantine_whatever_the_reason(tmp_path: Path) -> None:
    rows = [FINE, FINE, {**FINE, "answer": "AKIAABCDEFGHIJKLMNOP"}, '{"question": "AKIAABCDEFGHIJKLMNOP']
    path = data.write(tmp_path / "a.jsonl", rows)
    with ExitStack() as stack:
        lines = quarantine(data.check(stack, data.dataset(path)).problems, data.dataset(path))
    assert [line["line"] for line in lines] == [2, 3, 4]
    assert all("ABCDEFGHIJKLMNOP" not in line["raw"] for line in lines)
    assert "AKIA…" in lines[1]["raw"]


@pytest.mark.parametrize("kind", ["answers", "preferences"])
def test_a_row_of_another_kind_is_set_aside_with_that_reason(tmp_path: Path, kind: str) -> None:
    rows = [FINE, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    path = data.write(tmp_path / "a.jsonl", rows)
    [reason] = reasons(path, None, kind=kind)
    assert reason.startswith("wrong kind: ")
