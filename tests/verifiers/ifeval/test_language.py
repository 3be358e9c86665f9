import pytest

from tunesmith.verifiers.ifeval import language


def test_a_long_text_of_short_sentences_is_counted() -> None:
    assert language.count_sentences("So. " * 40_000) == 40_000


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("The marble is in jar B. How many are there?", 2),
        ("Call it x. Subtracting 3 gives y. The rest is z.", 3),
        ("The wall is 12 ft. long and 3 ft. high.", 1),
        ("It starts at 8 a.m. on Monday.", 1),
        ("Dr. J. Smith met Mrs. Lee, e.g. at noon. They left.", 2),
    ],
)
def test_sentences_are_counted_as_by_nltks_trained_model(text: str, sentences: int) -> None:
    assert language.count_sentences(text) == sentences


def test_detecting_the_language_of_an_ambiguous_text_is_reproducible() -> None:
    assert len({language.detect("no es un test de la data in a bar") for _ in range(20)}) == 1
