from tunesmith.verifiers.ifeval import language


def test_a_long_text_of_short_sentences_is_counted() -> None:
    assert language.count_sentences("So. " * 40_000) == 40_000


def test_detecting_the_language_of_an_ambiguous_text_is_reproducible() -> None:
    assert len({language.detect("no es un test de la data in a bar") for _ in range(20)}) == 1
