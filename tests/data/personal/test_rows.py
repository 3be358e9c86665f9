import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import pytest

from tunesmith.data.personal.finder import EMAIL, PHONE
from tunesmith.data.personal.rows import quarantine
from tunesmith.data.prepare import CheckedRows

CLEAN = [{"question": f"what is {i}", "answer": str(i)} for i in range(20)]
PERSONAL = [
    {"question": "who are you?", "answer": "ada@example.com"},
    {"question": "call +49 30 901820", "answer": "ada@example.com or bob@example.com"},
]


@pytest.fixture
def stack() -> Any:
    with ExitStack() as opened:
        yield opened


def check(stack: ExitStack, folder: Path, rows: list[dict[str, Any]], **changes: Any) -> CheckedRows:
    return data.check(stack, data.dataset(data.write(folder / "a.jsonl", rows), **changes))


def text(rows: CheckedRows) -> str:
    return json.dumps(data.good_rows(rows))


def test_personal_data_is_counted_by_rows_and_kept_by_default(tmp_path: Path, stack: ExitStack) -> None:
    rows = check(stack, tmp_path, CLEAN + PERSONAL)
    assert rows.personal == {EMAIL: 2, PHONE: 1}
    assert len(rows.index) == 22
    assert text(rows).count("@example.com") == 3


def test_personal_data_is_masked_where_params_say_so(tmp_path: Path, stack: ExitStack) -> None:
    rows = check(stack, tmp_path, CLEAN + PERSONAL, personal_data="mask")
    assert rows.personal == {EMAIL: 2, PHONE: 1}
    assert "@example.com" not in text(rows)
    assert data.good_rows(rows)[-1]["prompt"][0]["content"] == "call <PHONE_NUMBER>"
    assert data.good_rows(rows)[-1]["completion"][0]["content"] == "<EMAIL_ADDRESS> or <EMAIL_ADDRESS>"
    assert len(rows.index) == 22


def test_a_masked_secret_sets_no_row_aside(tmp_path: Path, stack: ExitStack) -> None:
    token = "ghp_" + "x7Kd92LmQp4RtWz81VbNcYh3JfGs5Ae06Uio"
    rows = [*CLEAN, {"question": "token?", "answer": f"it is {token}"}]
    kept = check(stack, tmp_path, rows)
    assert [problem.check for problem in kept.problems] == ["secret"]
    masked = check(stack, tmp_path, rows, personal_data="mask")
    assert not masked.problems
    assert token not in text(masked)


@pytest.mark.parametrize("treatment", ["mask", "set_aside"])
def test_the_quarantine_shows_no_personal_data_that_params_keep_out_of_rows(
    tmp_path: Path, stack: ExitStack, treatment: str
) -> None:
    bad = {"question": "mail ada@example.com", "answer": ""}
    rows = check(stack, tmp_path, [*CLEAN, *PERSONAL, bad], personal_data=treatment, max_bad_share=0.1)
    if treatment == "set_aside":
        assert [(problem.line, problem.reason) for problem in rows.problems[:2]] == [
            (21, f"personal data: {EMAIL}"),
            (22, f"personal data: {PHONE}, {EMAIL}"),
        ]
    lines = quarantine(rows.problems, data.dataset(tmp_path / "a.jsonl", personal_data=treatment))
    assert "mail <EMAIL_ADDRESS>" in str(lines[-1]["raw"])
    assert "example.com" not in json.dumps(lines)
    assert len(rows.index) == (20 if treatment == "set_aside" else 22)


def test_nothing_is_sought_where_params_say_so(tmp_path: Path, stack: ExitStack) -> None:
    assert not check(stack, tmp_path, CLEAN + PERSONAL, personal_data="ignore").personal


def test_arguments_of_calls_are_masked_and_names_are_not(tmp_path: Path, stack: ExitStack) -> None:
    call = {"id": "1", "function": {"name": "mail", "arguments": {"to": ["ada@example.com"]}}}
    turns = [
        {"role": "user", "content": "mail ada@example.com"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sent", "tool_call_id": "1"},
        {"role": "assistant", "content": "done"},
    ]
    [row] = data.good_rows(check(stack, tmp_path, [{"messages": turns}], personal_data="mask"))
    assert "ada@example.com" not in json.dumps(row)
    assert json.dumps(row).count("<EMAIL_ADDRESS>") == 2
    assert '"name": "mail"' in json.dumps(row)
