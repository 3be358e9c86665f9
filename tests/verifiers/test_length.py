import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import length

CASES = [
    ("one two", {"max_words": 2}, 1),
    ("one two three", {"max_words": 2}, 0),
    ("one", {"min_words": 2}, 0),
    ("one two", {"min_words": 2, "max_words": 2}, 1),
    ("  four \n", {"max_characters": 4}, 1),
    ("fives", {"max_characters": 4}, 0),
    ("abc", {"min_characters": 4}, 0),
    ("日本語", {"min_characters": 3, "max_words": 1}, 1),
    ("one two", {"min_words": 1, "max_characters": 3}, 0),
    ("one two", {"min_words": None, "max_words": 2}, 1),
    ("one" + " \u2800" * 50, {"min_words": 2}, 0),
    ("one" + "\u200b" * 50, {"min_characters": 4}, 0),
    ("one" + " " * 50 + "two", {"min_characters": 8}, 0),
    ("o" + "\u0301" * 50, {"min_characters": 2}, 0),
    ("caf\u00e9 cafe\u0301", {"min_characters": 9, "max_characters": 9}, 1),
]
UNUSABLE = [{}, {"max_words": "2"}, {"max_words": True}, {"max_words": -1}, {"min_words": 3, "max_words": 2},
            {"max_words": 2.5}, {"max_words": 0}]  # fmt: skip


@pytest.mark.parametrize(("completion", "bounds", "score"), CASES)
def test_bounds_are_inclusive_and_all_must_hold(completion: str, bounds: dict[str, object], score: int) -> None:
    verdict = length.verify(completion, bounds)
    assert (verdict.score, verdict.status) == (score, "scored")


@pytest.mark.parametrize("bounds", UNUSABLE)
def test_bounds_that_no_completion_can_meet_are_not_gradable(bounds: dict[str, object]) -> None:
    assert length.verify("one two", bounds).status == "not_gradable"


@pytest.mark.parametrize("blank", ["", " \n\t", "\u200b", "\u2800 \u3164"])
def test_a_blank_completion_is_no_answer(blank: str) -> None:
    assert length.verify(blank, {"max_words": 5}).status == "no_answer"


@given(st.lists(st.text("ab", min_size=1), min_size=1), st.integers(0, 5), st.integers(5, 9))
def test_exactly_the_completions_within_bounds_are_right(words: list[str], least: int, most: int) -> None:
    verdict = length.verify(" ".join(words), {"min_words": least, "max_words": most})
    assert verdict.score == float(least <= len(words) <= most)
