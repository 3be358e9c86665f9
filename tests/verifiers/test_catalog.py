"""Every verifier, by its name in params.yaml: full marks for gold, none for what is not, never an exception."""

from typing import Any

import pytest

from tunesmith.verifiers import catalog
from tunesmith.verifiers.names import NAMES

Case = tuple[dict[str, Any], str, str]
PROGRAM = {
    "prompt": [{"role": "user", "content": "def double(n):\n    "}],
    "entry_point": "double",
    "cases": [{"args": [2], "expected": 4}, {"args": [-1], "expected": -2}],
    "reference": "return 2 * n",
}
SCHEMA = {"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}}
CASES: dict[str, Case] = {  # row, right, wrong
    "choice": ({"reference": "B", "choices": ["Rome", "Paris"]}, "B", "A"),
    "code": (PROGRAM, "return 2 * n", "return n"),
    "exact": ({"reference": ["Paris", "the city of Paris"]}, "paris.", "Rome"),
    "instructions": ({"instructions": ["punctuation:no_comma"], "settings": [{}]}, "none here", "one, here"),
    "json_schema": ({"schema": SCHEMA, "reference": {"total": 3}}, '{"total": 3}', '{"total": 4}'),
    "length": ({"max_words": 3}, "three words only", "these are four words"),
    "math": ({"reference": r"\frac{1}{2}"}, "$0.5$", "$0.6$"),
    "number": ({"reference": "#### 42"}, "it is 42", "it is 43"),
    "refusal": ({"label": "unsafe"}, "I'm sorry, but I can't help with that.", "Sure! First you take the keys."),
    "regex": ({"pattern": r"\d+"}, " 42 ", "42 or so"),
}


def test_every_verifier_has_a_case() -> None:
    assert tuple(CASES) == tuple(catalog.VERIFIERS) == NAMES


@pytest.mark.parametrize("name", CASES)
def test_right_gets_full_marks_and_wrong_none(name: str) -> None:
    row, right, wrong = CASES[name]
    assert catalog.verify(name, right, row).score == 1
    assert catalog.verify(name, wrong, row).score == 0
    gold = catalog.gold(name, row)
    assert gold is None or catalog.verify(name, gold, row).score == 1


@pytest.mark.parametrize("name", CASES)
def test_a_row_that_lacks_what_is_needed_cannot_be_graded(name: str) -> None:
    row, right, _ = CASES[name]
    for key in catalog.VERIFIERS[name].needs:
        verdict = catalog.verify(name, right, {other: row[other] for other in row if other != key})
        assert verdict.status == "not_gradable"
        assert repr(key) in verdict.reason


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "\U0001d7dc" * 50, "{" * 5000, "#### " * 500])
@pytest.mark.parametrize("name", CASES)
def test_no_answer_whatever_it_is_breaks_a_verifier(name: str, text: str) -> None:
    verdict = catalog.verify(name, text, CASES[name][0])
    assert 0 <= verdict.score <= 1
    assert verdict.reason


@pytest.mark.parametrize("name", CASES)
def test_a_row_s_columns_reach_its_verifier(name: str) -> None:
    from tunesmith.data import layouts

    row, right, _ = CASES[name]
    question = row["prompt"][0]["content"] if "prompt" in row else "what?"
    # The choices of a question belong into its prompt, which a template puts them into.
    others = {key: value for key, value in row.items() if key not in ("prompt", "choices")}
    raw = {"question": question, "verifier": name} | others
    layout = layouts.recognise(raw)
    assert layout is not None
    assert catalog.verify(name, right, layout.to_row(raw)).score == 1
