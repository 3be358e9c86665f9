r"""The one expression that a mathematical text ends in.

It is, the first of these that there is: what the last ``\boxed{...}`` holds; what follows the last ``####``; what
follows the last "the answer is" or "answer:", to the end of the sentence; the last formula in dollars or LaTeX
brackets; all of the text, if it is one expression; its final number. Boxes or formulas with nothing between them but
a comma, "or" or "and" are one answer of several parts, so a list of guesses is not read as its last.
"""

import re

from tunesmith.verifiers import latex, number
from tunesmith.verifiers.math import expression

WINDOW = 2000
"""Characters at the end of a text that are searched."""
JOINED = re.compile(r"[$\s]*(?:(?:,|;|\bor\b|\band\b|\\text\{\s*(?:or|and)\s*\})[$\s]*){0,2}")
FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$((?:\\.|[^$\n\\])+)\$", re.DOTALL)
STATED = re.compile(r"\b(?:answer|solution|result)(?:\s{1,9}is\s{0,9}:?|\s{0,9}[:=])[\s*]*(.+)", re.IGNORECASE)
SENTENCE = re.compile(r"[.!?]?\s*$|[.!?]\s|,?\s(?:because|since|as|which|so|where)\s")


def final(text: str) -> str | None:
    """The expression, as written; None where nothing can be read."""
    _, mark, after = text[-WINDOW:].rpartition(number.MARK)
    boxes = latex.boxes(after)
    if boxes:
        return _group(after, boxes)
    if mark:
        return _from_prose(next((line for line in after.splitlines() if line.strip()), ""))
    stated = list(STATED.finditer(after))
    if stated:
        said = stated[-1][1]
        end = SENTENCE.search(_masked(said))
        return _from_prose(said[: end.start()] if end else said)
    return _from_prose(after)


def _from_prose(text: str) -> str | None:
    if expression.read(text):
        return text
    formulas = [(found.start(), found.end(), found[found.lastindex or 0]) for found in FORMULA.finditer(text)]
    return _group(text, formulas) if formulas else number.final_number(text)


def _group(text: str, spans: list[tuple[int, int, str]]) -> str:
    """What the last of ``spans`` (begin, end, content) holds, with those that are joined to it."""
    group = [spans[-1][2]]
    for (_, end, content), (start, _, _) in zip(spans[-2::-1], spans[:0:-1], strict=True):
        if not JOINED.fullmatch(text[end:start]):
            break
        group.append(content)
    return ", ".join(reversed(group))


def _masked(text: str) -> str:
    """``text`` with its formulas blotted out: a full stop in them ends no sentence."""
    return FORMULA.sub(lambda formula: "x" * len(formula[0]), text)
