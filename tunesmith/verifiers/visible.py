"""Tell the characters of a text that a reader sees from those that leave no mark, and normalise text in linear time."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"
"""Fillers of Hangul: letters to Unicode, and nothing to a reader."""
BLANKS = frozenset(f"{BLANK_LETTERS}\u2800\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f")
"""Characters of a visible category that leave no mark: empty Braille, fillers and selectors."""
SELECTORS = (range(0xFE00, 0xFE10), range(0xE0000, 0xE1000))
"""Selectors of variants and tags; some are not assigned yet, and are to be ignored all the same (UAX 44)."""
MARKS_IN_A_ROW = 30
"""Combining marks after one character in any real text (UAX 15, stream-safe text)."""


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: no character but white space, controls, fillers and combining marks."""
    return not any(map(is_visible, text))


@lru_cache(maxsize=1 << 16)
def is_visible(character: str) -> bool:
    """Whether a character leaves a mark by itself; a combining mark does not."""
    if character.isascii():
        return character.isprintable() and character != " "
    hidden = character in BLANKS or any(ord(character) in span for span in SELECTORS)
    return not hidden and unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Mn", "Me", "Zs", "Zl", "Zp")


def words(text: str) -> list[str]:
    """The visible characters of every word; words are separated by white space."""
    kept = "".join(character for character in text if character.isspace() or is_visible(character))
    return kept.split()


def normalized(form: str, text: str) -> str:
    """`unicodedata.normalize`, which sorts a run of combining marks in quadratic time, in bounded pieces of a run."""
    if text.isascii():
        return text
    return "".join(unicodedata.normalize(form, piece) for piece in _pieces(text))  # type: ignore[arg-type]


def _pieces(text: str) -> Iterator[str]:
    """``text`` in pieces that have at most `MARKS_IN_A_ROW` combining marks in a row."""
    start = run = 0
    for position, character in enumerate(text):
        run = run + 1 if not character.isascii() and unicodedata.combining(character) else 0
        if run > MARKS_IN_A_ROW:
            yield text[start:position]
            start, run = position, 0
    yield text[start:]
