"""Token ids that stand for images among those of a row."""

from collections.abc import Iterable

FIRST_ID = 1 << 24
"""The first token id that stands for an image; no vocabulary has as many tokens."""


def image_tokens(ids: Iterable[int]) -> int:
    """The number of tokens that stand for images."""
    return sum(token >= FIRST_ID for token in ids)
