import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.duplicates import find_similar, jaccard, signatures


def text(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(10**6)}" for _ in range(words))


def test_a_changed_word_is_found_and_told_with_its_similarity() -> None:
    texts = [text(1), text(2), text(1).replace("w", "v", 1), text(3)]
    found = find_similar(signatures(texts), texts.__getitem__, 0.8)
    assert list(found) == [2]
    assert found[2] == (0, pytest.approx(jaccard(texts[0], texts[2])))


def test_what_is_less_alike_is_kept() -> None:
    texts = [text(1) + text(2), text(1) + text(3)]
    assert 0.3 < jaccard(*texts) < 0.4
    assert find_similar(signatures(texts), texts.__getitem__, 0.8) == {}


def test_a_row_is_compared_with_kept_rows_alone() -> None:
    """Of a chain in which each is like the one before, the second is set aside, and the third is not like the first."""
    words = text(1).split()
    chain = [" ".join(words[start : start + 50]) for start in (0, 5, 10)]
    assert jaccard(chain[0], chain[2]) < 0.75 < jaccard(chain[1], chain[2])
    assert list(find_similar(signatures(chain), chain.__getitem__, 0.75)) == [1]


def test_most_near_duplicates_among_many_rows_are_found() -> None:
    texts = [text(seed) for seed in range(500)]
    twins = [one.replace("w", "v", 2) for one in texts]
    found = find_similar(signatures(texts + twins), (texts + twins).__getitem__, 0.8)
    assert len(found) >= 499
    assert all(earlier == later - 500 for later, (earlier, _) in found.items())


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_has_hashes_and_is_all_like_itself(texts: list[str]) -> None:
    assert signatures(texts).shape == (len(texts), 24)
    assert (signatures(texts) == signatures(texts)).all()
    assert all(jaccard(one, one) == 1 for one in texts)
