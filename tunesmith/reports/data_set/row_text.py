"""Texts of rows, fit for a page: cut by the bytes that they take in it, masked, and without characters that mislead.

Rows are hostile and pages are shared. Secrets are masked in every text and personal data too, unless params ignore it.
Only what a search has seen whole is shown: it looks further than the cut.
"""

import bisect
import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import escape

from tunesmith.data.dataset import Dataset
from tunesmith.data.personal import rows as personal

WINDOW = 8
"""Bytes searched for secrets and personal data, for each that is shown."""
TAG = 48
"""Bytes of the markup around a span."""
CONTEXT = 120
"""Characters before the first difference of two texts."""
ESCAPED = {character: len(str(escape(character))) for character in "&<>\"'"}
"""Bytes of the characters that HTML escapes."""
JOINERS = "\u200c\u200d"
"""Characters without a shape that Arabic, Indic scripts and emoji are written with."""


class Span(NamedTuple):
    """A stretch of a text."""

    text: str
    marked: bool = False
    """Whether it is trained; in a copy, whether it differs from the row that is repeated."""
    special: bool = False
    """Whether it is a special token."""
    gap: bool = False
    """Whether it stands for what is not shown."""


GAP = Span("… not shown …", gap=True)


class Masker:
    """Makes texts of one data set's rows fit for its page."""

    def __init__(self, dataset: Dataset) -> None:
        hides = dataset.personal_data != "ignore"
        self._dataset = dataset.model_copy(update={"personal_data": "mask"}) if hides else dataset

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Texts without secrets and personal data, in their full length."""
        return [visible(text) for text in personal.shown(texts, self._dataset)]

    def head(self, text: str, most: int) -> list[Span]:
        """The beginning of a text, at most this many bytes."""
        window = text[: WINDOW * most]
        [masked] = self.texts([window])
        begin = first([Span(masked)], most)
        return begin if window == text and joined(begin) == masked else [*begin, GAP]

    def ends(self, spans: list[Span], head: int, tail: int) -> list[Span]:
        """The whole text where it fits into the bytes of both, else its beginning and its end."""
        window = first(spans, WINDOW * (head + tail))
        begin = self._masked(window)
        if window == spans and first(begin, head + tail) == begin:
            return begin
        return [*first(begin, head), GAP, *last(self._masked(last(spans, WINDOW * tail)), tail)]

    def changed(self, original: str, copy: str, most: int) -> list[Span]:
        """A copy around its first difference from the original, with what the original has not marked."""
        window = copy[: WINDOW * most]
        texts = self.texts([original[: WINDOW * most], window])
        pairs = enumerate(zip(*texts, strict=False))
        start = max(0, next((place for place, (one, other) in pairs if one != other), len(texts[0])) - CONTEXT)
        before, after = (joined(first([Span(text[start:])], most)) for text in texts)
        whole = window == copy and start + len(after) == len(texts[1])
        return [*([GAP] if start else []), *_differences(before, after), *([] if whole else [GAP])]

    def _masked(self, spans: list[Span]) -> list[Span]:
        texts = self.texts([span.text for span in spans])
        return [span._replace(text=text) for span, text in zip(spans, texts, strict=True)]


def visible(text: str) -> str:
    """A text in which controls, changes of direction and other characters without a shape are numbers, as ⟨U+202E⟩."""
    if text.isprintable():
        return text
    characters = text.replace("\r\n", "\n")
    return "".join(f"⟨U+{ord(character):04X}⟩" if _shapeless(character) else character for character in characters)


def _shapeless(character: str) -> bool:
    if character in "\n\t" or character in JOINERS:
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def first(spans: Sequence[Span], most: int) -> list[Span]:
    """The beginning of a text, by the bytes that it takes in a page."""
    kept: list[Span] = []
    for span in spans:
        most = max(0, most - TAG)
        begin = span.text[:most]
        size = len(str(escape(begin)).encode(errors="replace"))
        if size > most:
            sizes = itertools.accumulate(ESCAPED.get(one) or len(one.encode(errors="replace")) for one in begin)
            begin = begin[: bisect.bisect_right(list(sizes), most)]
        if begin:
            kept.append(span._replace(text=begin))
        if len(begin) < len(span.text):
            break
        most -= size
    return kept


def last(spans: Sequence[Span], most: int) -> list[Span]:
    """The end of a text, as `first`."""
    return _reversed(first(_reversed(spans), most))


def joined(spans: Sequence[Span]) -> str:
    """The text of spans."""
    return "".join(span.text for span in spans)


def _reversed(spans: Sequence[Span]) -> list[Span]:
    return [span._replace(text=span.text[::-1]) for span in reversed(spans)]


def _differences(before: str, after: str) -> Iterator[Span]:
    """The second text, with what the first has not marked."""
    others, words = (re.findall(r"\w+|\s+|.", text, re.DOTALL) for text in (before, after))
    matcher = difflib.SequenceMatcher(None, others, words, autojunk=False)
    for kind, _, _, begin, end in matcher.get_opcodes():
        if begin < end:
            yield Span("".join(words[begin:end]), marked=kind != "equal")
