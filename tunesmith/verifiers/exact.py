"""Compare the answer with the reference, word for word.

Both are normalised first: Unicode's compatibility forms (full width, ligatures) become plain ones, case is folded,
white space collapses, and quotes and Markdown emphasis around the whole are removed, as are the punctuation that ends
a sentence and an English article (a, an, the) that begins it. Unlike SQuAD's normalisation, punctuation and articles
inside stay: 3.5 is not 35, C is not C++, -5 is not 5; and superscripts stay: 10³ is not 103.

The reference may be a list of accepted answers.
"""

import re
import unicodedata

from tunesmith.core import ready_rows
from tunesmith.verifiers import visible
from tunesmith.verifiers.verdict import Columns, Verdict

KEPT_FORMS = ("<super>", "<sub>", "<fraction>")
"""Compatibility forms that differ in meaning from their plain form."""
INVISIBLE = dict.fromkeys([0xAD, 0x2060, 0xFEFF, *range(0x200B, 0x2010)])
QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b"), "'") | dict.fromkeys(map(ord, "“”„‟«»"), '"')
WRAPPERS = ("**", "__", "*", "_", "`", '"', "'")
SENTENCE_END = ".,;:!?。"
ARTICLE = re.compile(r"(?:an?|the) (?=\S)")
LAYERS = 4
"""Layers of emphasis and quotes that are removed from around an answer; any further ones belong to it."""


def verify(completion: str, row: Columns) -> Verdict:
    """Compare ``completion`` with the row's reference, or with each of a list of them."""
    reference = row.get("reference")
    texts = reference if isinstance(reference, list) else [ready_rows.reference(row)]
    accepted = [normalise(str(text)) for text in texts]
    if not any(accepted):
        return Verdict(0.0, None, f"the normalised reference is empty: {str(reference)[:80]!r}", "not_gradable")
    answer = normalise(completion)
    if not answer:
        return Verdict(0.0, None, "the normalised completion is empty", "no_answer")
    right = answer in accepted
    expected = " or ".join(repr(text[:80]) for text in accepted if text)
    return Verdict(float(right), answer, f"{answer[:80]!r} is {'' if right else 'not '}{expected}")


def normalise(text: str) -> str:
    """Bring ``text`` into the form that is compared; "" where only white space, marks and punctuation are in it."""
    plain = "".join(map(_plain_form, text.translate(INVISIBLE)))
    text = " ".join(visible.normalized("NFC", plain.casefold()).translate(QUOTES).split())
    for _ in range(LAYERS):
        text = text.rstrip(SENTENCE_END + " ")
        wrapper = next((mark for mark in WRAPPERS if _is_wrapped(text, mark)), "")
        text = text[len(wrapper) : len(text) - len(wrapper)].strip()
    text = text.rstrip(SENTENCE_END + " ")
    return ARTICLE.sub("", text, count=1) if ARTICLE.match(text) else text


def _is_wrapped(text: str, mark: str) -> bool:
    return len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark)


def _plain_form(character: str) -> str:
    keep = character.isascii() or unicodedata.decomposition(character).startswith(KEPT_FORMS)
    return character if keep else unicodedata.normalize("NFKC", character)
