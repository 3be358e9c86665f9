r"""Find the final expression of a mathematical text.

It is the first of these that the text has: the content of the last ``\boxed{...}``; the text after the last ``####``;
the text after the last "the answer is" or "answer:", to the end of the sentence; all of the text, if it is one
expression; the last formula in dollars or LaTeX brackets; the final number. Boxes or formulas with nothing between them
but a comma, "or" or "and" are one answer of several parts, so a list of guesses is not read as its last.
"""

import re

from tunesmith.verifiers import latex, number
from tunesmith.verifiers.math import equivalence, expression

WINDOW = 2000
"""Characters at the end of a text that are searched."""
GAP = r"(?:[$\s~]|\\(?:quad|qquad|[,;:! ]))*"
JOINED = re.compile(rf"{GAP}(?:(?:,|;|\bor\b|\band\b|\\(?:text|mathrm|mbox)\{{\s*(?:or|and)\s*\}}){GAP}){{0,2}}")
FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)"
    r"|(?<!\\)\$(?:(?=\S)((?:\\.|[^$\n\\])+)(?<!\s)|\s((?:\\.|[^$\n\\])+)\s)\$(?!\d)",
    re.DOTALL,
)
"""A formula. As in Pandoc's Markdown, no space stands inside either dollar or inside both, and no digit behind the
second: $100 - $88 is money."""
VALUE_BEHIND = re.compile(
    r"\s*(?:is|are|was|were|equals?|=|must be|would be|comes to|:)\s*(?:equal to\s|exactly\s|just\s)?"
)
"""What leads from a formula that names a quantity to its value: "the largest $n$ is 34"."""
STATED_ANSWER = re.compile(r"\b(?:answer|solution|result)(?:\s{1,9}is\s{0,9}:?|\s{0,9}[:=])[\s*]*(.+)", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?]?\s*$|[.!?]\s|,?\s(?:because|since|as|which|so|where)\s")


def final_expression(text: str) -> str | None:
    """The final expression, as written; None where nothing can be read."""
    _, mark, after = text[-WINDOW:].rpartition(number.MARK)
    boxes = latex.boxes(after)
    if boxes:
        return _group(after, boxes)
    if mark:
        return _from_prose(next((line for line in after.splitlines() if line.strip()), ""))
    statements = list(STATED_ANSWER.finditer(after))
    if statements:
        answer = statements[-1][1]
        end = SENTENCE_END.search(_masked(answer))
        return _from_prose(answer[: end.start()] if end else answer)
    return _from_prose(after)


def is_marked(text: str) -> bool:
    """Whether ``text`` marks a mathematical answer: in a box, after a ``####``, as a formula at its end, or alone."""
    answer = final_expression(text)
    parsed = expression.read(answer) if answer else None
    if parsed is None or parsed.kind == "words":
        return False
    formulas = [match.end() for match in FORMULA.finditer(text[-WINDOW:])]
    at_end = bool(formulas) and len(text[-WINDOW:][formulas[-1] :].strip(" .\n")) == 0
    return bool(number.MARK in text or latex.BOX.search(text) or at_end or answer == text)


def _from_prose(text: str) -> str | None:
    if expression.read(text):
        return text
    formulas = [(match.start(), match.end(), match[match.lastindex or 0]) for match in FORMULA.finditer(text)]
    if not formulas:
        return number.final_number(text)
    _, end, last = formulas[-1]
    value = VALUE_BEHIND.match(text, end)
    if value and equivalence.names(last):
        return number.final_number(text[value.end() :]) or _group(text, formulas)
    return _group(text, formulas)


def _group(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The content of the last of ``spans`` (start, end, content), with that of the spans joined to it."""
    group = [spans[-1][2]]
    for (_, end, content), (start, _, _) in zip(spans[-2::-1], spans[:0:-1], strict=True):
        if not JOINED.fullmatch(text[end:start]):
            break
        group.append(content)
    return ", ".join(reversed(group))


def _masked(text: str) -> str:
    """``text`` with its formulas masked, since a full stop in one does not end a sentence."""
    return FORMULA.sub(lambda formula: "x" * len(formula[0]), text)
