import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import regex

CASES = [
    ("42", {"pattern": r"\d+"}, 1),
    (" 42\n", {"pattern": r"\d+"}, 1),
    ("42 apples", {"pattern": r"\d+"}, 0),
    ("42 apples", {"pattern": r"\d+", "anywhere": True}, 1),
    ("no", {"pattern": r"\d+", "anywhere": True}, 0),
    ("yes\nno", {"pattern": "yes.no"}, 0),
    ("yes\nno", {"pattern": "(?s)yes.no"}, 1),
    ("YES", {"pattern": "(?i)yes|no"}, 1),
    ("été", {"pattern": r"\pL{3}"}, 1),
    ("ab", {"pattern": "a|ab"}, 1),
    ("\ud800", {"pattern": "a"}, 0),
]


@pytest.mark.parametrize(("completion", "row", "score"), CASES)
def test_the_pattern_must_match_the_whole_text_or_with_anywhere_a_part(
    completion: str, row: dict[str, object], score: int
) -> None:
    verdict = regex.verify(completion, row)
    assert (verdict.score, verdict.status) == (score, "scored")


@pytest.mark.parametrize("unusable", ["(", "(?=a)", r"(a)\1", "(?:a{1000}){1000}", 5, None, ["a"]])
def test_a_pattern_that_re2_cannot_use_is_not_gradable(unusable: object) -> None:
    assert regex.verify("a", {"pattern": unusable}).status == "not_gradable"


def test_an_anywhere_that_is_not_true_or_false_is_not_gradable() -> None:
    assert regex.verify("a", {"pattern": "a", "anywhere": "no"}).status == "not_gradable"


def test_a_blank_completion_is_no_answer() -> None:
    assert regex.verify(" ", {"pattern": ".*"}).status == "no_answer"


def test_time_is_linear_in_hostile_text() -> None:
    start = time.perf_counter()
    assert regex.verify("a" * 100_000 + "!", {"pattern": "(a+)+"}).score == 0
    assert regex.verify("a" * 100_000 + "!", {"pattern": "(a*)*b", "anywhere": True}).score == 0
    assert time.perf_counter() - start < 5


@given(st.text(), st.text())
def test_a_quoted_text_matches_only_itself(completion: str, text: str) -> None:
    import re2

    row = {"pattern": re2.escape(text.strip())}
    if completion.strip():
        assert regex.verify(completion, row).score == float(completion.strip() == text.strip())
