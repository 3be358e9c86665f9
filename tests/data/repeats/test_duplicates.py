import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.ready_rows import Message, Row
from tunesmith.data.repeats.duplicates import find_contradictions, find_near_duplicates, jaccard, minhash_signatures


def random_text(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(10**6)}" for _ in range(words))


def test_a_row_with_a_changed_word_is_found_with_its_similarity() -> None:
    texts = [random_text(1), random_text(2), random_text(1).replace("w", "v", 1), random_text(3)]
    duplicates = find_near_duplicates(minhash_signatures(texts), texts.__getitem__, 0.8)
    assert list(duplicates) == [2]
    assert duplicates[2] == (0, pytest.approx(jaccard(texts[0], texts[2])))


def test_a_less_similar_row_is_kept() -> None:
    texts = [random_text(1) + random_text(2), random_text(1) + random_text(3)]
    assert 0.3 < jaccard(*texts) < 0.4
    assert find_near_duplicates(minhash_signatures(texts), texts.__getitem__, 0.8) == {}


def test_a_row_is_compared_only_with_rows_that_are_kept() -> None:
    """In a chain where each row is similar to the one before, the second is set aside and the third is kept."""
    words = random_text(1).split()
    chain = [" ".join(words[start : start + 50]) for start in (0, 5, 10)]
    assert jaccard(chain[0], chain[2]) < 0.75 < jaccard(chain[1], chain[2])
    assert list(find_near_duplicates(minhash_signatures(chain), chain.__getitem__, 0.75)) == [1]


def test_most_near_duplicates_among_many_rows_are_found() -> None:
    texts = [random_text(seed) for seed in range(500)]
    twins = [text.replace("w", "v", 2) for text in texts]
    duplicates = find_near_duplicates(minhash_signatures(texts + twins), (texts + twins).__getitem__, 0.8)
    assert len(duplicates) >= 499
    assert all(earlier == later - 500 for later, (earlier, _) in duplicates.items())


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_has_a_signature_and_equals_itself(texts: list[str]) -> None:
    assert minhash_signatures(texts).shape == (len(texts), 24)
    assert (minhash_signatures(texts) == minhash_signatures(texts)).all()
    assert all(jaccard(text, text) == 1 for text in texts)


def test_a_row_without_an_answer_contradicts_one_with_an_answer_to_the_same_prompt() -> None:
    prompt: list[Message] = [{"role": "user", "content": "2 + 2?"}]
    bounded: Row = {"prompt": prompt, "verifier": "length", "max_words": 1}
    exact: Row = {"prompt": prompt, "verifier": "exact", "reference": "4"}
    assert find_contradictions({0: exact, 1: bounded}) == {0: 1, 1: 0}
    assert find_contradictions({0: bounded, 1: exact}) == {0: 1, 1: 0}
    assert find_contradictions({0: bounded, 1: bounded}) == {}
