import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import number

FINAL = [
    ("42", "42"),
    ("the answer is 42.", "42"),
    ("The answer is -4", "-4"),
    ("5 - 9 = -4", "-4"),
    ("so 3-4", "4"),
    ("(−7)", "−7"),
    ("first 3, then 12", "12"),
    ("it costs $1,234.50!", "$1,234.50"),
    ("**42**", "42"),
    ("{42}", "42"),
    ("2 * 3 = 6\n#### 6", "6"),
    ("#### 1,000\nThat took 3 steps", "1,000"),
    ("#### 5\n#### 7", "7"),
    ("10 apples\n#### none", None),
    ("on the 12th of x3", None),
    ("12.5kg", "12.5"),
    ("it weighs 1,234kg.", "1,234"),
    (".5", ".5"),
    ("20*2 = <<20*2=40>>40", "40"),
    ("-$5", "-$5"),
    ("10%", "10"),
    ("20-30", "30"),
    ("5 on the 12th", "5"),
    ("1e5", None),
    ("3 is 7/8", None),
    ("3 is 10^3", None),
    ("version 1.2.3", None),
    ("1,2", None),
    ("1" * 5000, None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), FINAL)
def test_the_final_number_is_found(text: str, expected: str | None) -> None:
    assert number.final_number(text) == expected


@pytest.mark.parametrize("same", ["42", "42.0", "+42", "The answer is 42.", "$42", "#### 42"])
def test_the_same_value_written_otherwise_is_right(same: str) -> None:
    assert number.verify(same, "42").score == 1


@pytest.mark.parametrize("other", ["41.999", "-42", "420", "4 2", "42.0000001"])
def test_another_value_is_wrong(other: str) -> None:
    verdict = number.verify(other, "42")
    assert (verdict.score, verdict.status) == (0, "scored")


def test_no_number_is_a_wrong_answer_with_its_own_status() -> None:
    assert number.verify("I do not know", "42").status == "no_answer"


def test_a_reference_without_a_number_is_the_graders_failure() -> None:
    assert number.verify("42", "no number").status == "not_gradable"


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integers_match_exactly_when_equal(found: int, expected: int) -> None:
    assert number.verify(f"The answer is {found:,}.", f"#### {expected}").score == float(found == expected)


@given(st.text())
def test_no_text_crashes_it(text: str) -> None:
    assert number.verify(text, "1").score in (0, 1)
