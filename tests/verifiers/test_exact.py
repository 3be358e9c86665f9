import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import exact

SAME = [
    ("Paris", "paris"),
    ("Paris.", "Paris"),
    ("  New\n York ", "New York"),
    ('"Paris"', "Paris"),
    ("**Paris**.", "Paris"),
    ("“The Eiffel Tower”", "Eiffel tower"),
    ("`ls -l`", "ls -l"),
    ("ﬁne", "fine"),
    ("\uff30\uff41\uff52\uff49\uff53", "Paris"),  # full width
    ("Stra\u00dfe", "STRASSE"),
    ("caf\u0065\u0301", "caf\u00e9"),
    ("it\u2019s", "it's"),
    ("4\u200b2", "42"),
    ("A", "A"),
    ("the", "the"),
]
OTHER = [
    ("35", "3.5"),
    ("C", "C++"),
    ("5", "-5"),
    ("103", "10³"),
    ("x2", "x₂"),
    ("Paris, Texas", "Paris"),
    ("not Paris", "Paris"),
    ("Paris or Rome", "Paris"),
    ("a", "b"),
    ("args", "*args"),
    ("Who", "The The Who"),
]


@pytest.mark.parametrize(("completion", "reference"), SAME)
def test_the_same_words_in_another_format_are_right(completion: str, reference: str) -> None:
    assert exact.verify(completion, {"reference": reference}).score == 1


@pytest.mark.parametrize(("completion", "reference"), OTHER)
def test_other_words_are_wrong(completion: str, reference: str) -> None:
    verdict = exact.verify(completion, {"reference": reference})
    assert (verdict.score, verdict.status) == (0, "scored")


@pytest.mark.parametrize("empty", ["", " \n", "...", "\u200b"])
def test_a_completion_that_is_empty_once_normalised_is_no_answer(empty: str) -> None:
    assert exact.verify(empty, {"reference": "Paris"}).status == "no_answer"


def test_any_of_several_references_is_right() -> None:
    row = {"reference": ["Paris", "City of Light"]}
    assert [exact.verify(text, row).score for text in ("paris", "City of light.", "Rome", "Paris City of Light")] == [
        1, 1, 0, 0
    ]  # fmt: skip


def test_the_rows_own_completion_is_a_reference() -> None:
    assert exact.verify("Yes", {"completion": [{"role": "assistant", "content": "yes"}]}).score == 1


@pytest.mark.parametrize("reference", ["", "?!", [], [" "]])
def test_a_reference_that_is_empty_once_normalised_is_not_gradable(reference: object) -> None:
    assert exact.verify("Paris", {"reference": reference}).status == "not_gradable"


@given(st.text(min_size=1))
def test_gold_is_right_wherever_it_can_be_graded(text: str) -> None:
    verdict = exact.verify(text, {"reference": text})
    assert verdict.score == 1 or verdict.status == "not_gradable"


@given(st.text(), st.text())
def test_completion_and_reference_can_be_exchanged(text: str, other: str) -> None:
    assert exact.verify(text, {"reference": other}).score == exact.verify(other, {"reference": text}).score
