"""Every verifier by its name in params.yaml: it scores a right answer 1, a wrong one 0, and never raises."""

import pytest

from tunesmith.verifiers import catalog
from tunesmith.verifiers.names import NAMES

Case = tuple[dict[str, object], str, str]
"""A row, a right answer and a wrong one."""
QUESTION = "def double(n):\n    "
PROGRAM = {
    "prompt": [{"role": "user", "content": QUESTION}],
    "entry_point": "double",
    "cases": [{"args": [2], "expected": 4}, {"args": [-1], "expected": -2}],
    "reference": "return 2 * n",
}
SCHEMA = {"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}}
CASES: dict[str, Case] = {
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
    "tool_call": ({"reference": [{"name": "f", "arguments": {"x": 1}}]}, '{"name": "f", "arguments": {"x": 1}}', "f"),
}


def test_every_verifier_has_a_case() -> None:
    assert tuple(CASES) == tuple(catalog.VERIFIERS) == NAMES


@pytest.mark.parametrize("name", CASES)
def test_a_right_answer_gets_full_marks_and_a_wrong_one_none(name: str) -> None:
    row, right, wrong = CASES[name]
    assert catalog.verify(name, right, row).score == 1
    assert catalog.verify(name, wrong, row).score == 0
    gold = catalog.gold(name, row)
    assert gold is None or catalog.verify(name, gold, row).score == 1


@pytest.mark.parametrize("name", CASES)
def test_a_row_without_a_needed_column_is_not_gradable(name: str) -> None:
    row, right, _ = CASES[name]
    for key in catalog.VERIFIERS[name].needs:
        verdict = catalog.verify(name, right, {other: row[other] for other in row if other != key})
        assert verdict.status == "not_gradable"
        assert repr(key) in verdict.reason


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "\U0001d7dc" * 50, "{" * 5000, "#### " * 500])
@pytest.mark.parametrize("name", CASES)
def test_no_answer_makes_a_verifier_raise(name: str, text: str) -> None:
    verdict = catalog.verify(name, text, CASES[name][0])
    assert 0 <= verdict.score <= 1
    assert verdict.reason


BLANKS = [
    "",
    " ",
    "\u200b",
    "\u2800",
    "\u3164 \u115f",
    "\xad",
    "\ufeff",
    "\u202e",
    "\u0301",
    "\ufe0f",
    "\U000e0041",
    "\x00",
    "\x1b",
]


@pytest.mark.parametrize("name", CASES)
def test_an_answer_that_cannot_be_seen_is_no_answer(name: str) -> None:
    rows = [CASES[name][0], *([{"pattern": ".*"}] if name == "regex" else [])]
    for row in rows:
        for blank in (*BLANKS, "".join(BLANKS) * 50):
            verdict = catalog.verify(name, blank, row)
            assert (verdict.score, verdict.status) == (0, "no_answer"), blank


@pytest.mark.parametrize("name", CASES)
def test_the_columns_of_a_raw_row_reach_its_verifier(name: str) -> None:
    from tunesmith.data import layouts

    row, right, _ = CASES[name]
    question = QUESTION if "prompt" in row else "what?"
    # The choices of a question belong in its prompt, where a template puts them.
    others = {key: value for key, value in row.items() if key not in ("prompt", "choices")}
    raw = {"question": question, "verifier": name} | others
    layout = layouts.recognise(raw)
    assert layout is not None
    assert catalog.verify(name, right, layout.to_row(raw)).score == 1
