import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers.math import equivalence, expression, final_answer


@given(st.text())
def test_no_text_makes_finding_or_reading_the_answer_raise(text: str) -> None:
    for answer in (text, final_answer.final_expression(text)):
        parsed = expression.read(answer) if answer else None
        if parsed is not None:
            assert equivalence.same(parsed, parsed, lambda gold, other: gold == other) in (True, False)


@pytest.mark.parametrize(
    "text", ["$", r"\(", r"\boxed{", "answer is ", "{", r"\text{", "1,", "(", " ", r"\frac", "=", r"\pm"]
)
def test_hostile_text_takes_little_time(text: str) -> None:
    start = time.perf_counter()
    for length in (expression.LONGEST, final_answer.WINDOW, 100_000):
        expression.read(final_answer.final_expression(text * (length // len(text))) or "")
        expression.read(text * (length // len(text)))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("text", ["12", "x + 1", r"\frac{1}{2}", "(1, 2)", r"2\pi", "12 cm", r"\boxed{red}"])
def test_expressions_and_marked_answers_are_mathematical(text: str) -> None:
    assert final_answer.is_marked(text)


@pytest.mark.parametrize("text", ["red", "Red.", "purple, yellow", "north, south and west", "yes", "a cat", "Paris"])
def test_words_alone_are_no_mathematical_answer(text: str) -> None:
    assert not final_answer.is_marked(text)
