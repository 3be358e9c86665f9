"""Is the answer the reference, word for word?

Both are normalised first: Unicode's compatible forms (full width, ligatures) become plain ones, case is folded,
white space collapses, quotes and Markdown emphasis around the whole go, so do the punctuation that ends a sentence
and an English article (a, an, the) that begins it. Unlike SQuAD's normalisation, punctuation and articles inside
stay: 3.5 is not 35, C is not C++, -5 is not 5; and superscripts stay: 10³ is not 103.

The reference may be a list of accepted answers.
"""

import re
import unicodedata

from tunesmith.core import ready_rows
from tunesmith.verifiers.verdict import Columns, Verdict

KEPT = ("<super>", "<sub>", "<fraction>")
"""Compatible forms that mean something else than their plain one."""
INVISIBLE = dict.fromkeys([0xAD, 0x2060, 0xFEFF, *range(0x200B, 0x2010)])
QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b"), "'") | dict.fromkeys(map(ord, "“”„‟«»"), '"')
AROUND = ("**", "__", "*", "_", "`", '"', "'")
END = ".,;:!?。"
ARTICLE = re.compile(r"(?:an?|the) (?=\S)")
LAYERS = 4
"""Of emphasis and quotes around an answer: beyond, they are the answer."""


def verify(completion: str, row: Columns) -> Verdict:
    """Compare ``completion`` with the row's reference, or with each of a list of them."""
    given = row.get("reference")
    accepted = [normalised(str(one)) for one in (given if isinstance(given, list) else [ready_rows.reference(row)])]
    if not any(accepted):
        return Verdict(0.0, None, f"the reference says nothing: {str(given)[:80]!r}", "not_gradable")
    found = normalised(completion)
    if not found:
        return Verdict(0.0, None, "the completion says nothing", "no_answer")
    right = found in accepted
    expected = " or ".join(repr(one[:80]) for one in accepted if one)
    return Verdict(float(right), found, f"{found[:80]!r} is {'' if right else 'not '}{expected}")


def normalised(text: str) -> str:
    """``text`` as it is compared; "" where it says nothing."""
    plain = "".join(map(_compatible, text.translate(INVISIBLE)))
    text = " ".join(unicodedata.normalize("NFC", plain.casefold()).translate(QUOTES).split())
    for _ in range(LAYERS):
        text = text.rstrip(END + " ")
        around = next((mark for mark in AROUND if _is_around(mark, text)), "")
        text = text[len(around) : len(text) - len(around)].strip()
    return ARTICLE.sub("", text.rstrip(END + " "), count=1) if ARTICLE.match(text) else text.rstrip(END + " ")


def _is_around(mark: str, text: str) -> bool:
    return len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark)


def _compatible(character: str) -> str:
    kept = character.isascii() or unicodedata.decomposition(character).startswith(KEPT)
    return character if kept else unicodedata.normalize("NFKC", character)
