r"""Find the final expression of a mathematical text.

It is the first of these that the text has, or its last ``<answer>``, if it has one: the content of the last
``\boxed{...}``; the text after the last ``####``; the text after the last "the answer is" or "answer:", to the end of
the sentence; all of the text, if it is one expression; the last formula in dollars or LaTeX brackets; the final number.
Boxes or formulas with nothing between them but a comma, "or" or "and" are one answer of several parts, so a list of
guesses is not read as its last.
"""

import re

from tunesmith.verifiers import latex, number
from tunesmith.verifiers.math import equivalence, expression, units

WINDOW = 2000
"""Characters at the end of a text that are searched."""
FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)"
    r"|(?<!\\)\$(?:(?=\S)((?:\\.|[^$\n\\])+)(?<!\s)|\s((?:\\.|[^$\n\\])+)\s)\$(?!\d)",
    re.DOTALL,
)
"""A formula. As in Pandoc's Markdown, no space stands inside either dollar or inside both, and no digit behind the
second: $100 - $88 is money."""
VALUE_BEHIND = re.compile(
    r"\s*(?:is|are|was|were|(?:must |has to |will )?equals?|=|(?:must|would|will|has to|turns out to) be|comes to|:)\s*"
    r"(?:therefore\s|thus\s)?(?:equal to\s|exactly\s|just\s)?"
)
"""What leads from a formula that names a quantity to its value: "the largest $n$ is 34"."""
NAMED_BEFORE = re.compile(
    r"\b(?:of|for|the|largest|smallest|greatest|least|possible|such|values?|integers?|numbers?)\s*$"
)
"""What stands before the name of a quantity whose value stands elsewhere: "7 is the largest $n$"."""
RATIO_AT_END = re.compile(r"(?<![\w:.])(\d{1,9}(?:\s?:\s?\d{1,9}){1,5})[.\s]*$")
UNIT_BEHIND = re.compile(
    r"\s?(?!in\s)([a-zA-Z\u00b0]+(?:/[a-zA-Z]+|(?: per)? [a-zA-Z]+){0,2}(?:\^?[23]|[\u00b2\u00b3])?)"
)
STATED_ANSWER = re.compile(r"\b(?:answer|solution|result)(?:\s{1,9}is\s{0,9}:?|\s{0,9}[:=])[\s*]*(.+)", re.IGNORECASE)
WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2}")
"""The beginning of a word that is no command of LaTeX."""
LEAD = re.compile(
    r"\s*(?:(?:therefore|thus|hence|so|then|finally|we (?:get|have|find|obtain)(?: that)?)[,:]?\s+){1,3}", re.IGNORECASE
)
"""Words that lead to an expression, and are no part of it."""
SENTENCE_END = re.compile(r"[.!?]?\s*$|[.!?]\s|,?\s(?:because|since|as|which|so|where)\s|(?:,|,?\s(?:and|but))\snot\s")


def final_expression(text: str) -> str | None:
    """The final expression, as written; None where nothing can be read."""
    _, mark, after = latex.tagged(text[-WINDOW:]).rpartition(number.MARK)
    boxes = latex.boxes(after)
    if boxes:
        return None if latex.is_operand(after, *boxes[-1][:2]) else _group(after, boxes)
    if mark:
        return _from_prose(next((line for line in after.splitlines() if line.strip()), ""))
    statements = list(STATED_ANSWER.finditer(after))
    if statements:
        answer = statements[-1][1]
        end = SENTENCE_END.search(_masked(answer))
        return _from_prose(answer[: end.start()] if end else answer)
    return _from_prose(after)


def is_marked(text: str) -> bool:
    """Whether ``text`` marks a mathematical answer: in a box, after a ``####``, as a formula at its end, or alone.

    Words alone, such as "red" or "north, south", are none, though they can be read as names of quantities.
    """
    answer = final_expression(text)
    parsed = expression.read(answer) if answer else None
    if parsed is None or parsed.kind == "words":
        return False
    formulas = [match.end() for match in FORMULA.finditer(text[-WINDOW:])]
    at_end = bool(formulas) and len(text[-WINDOW:][formulas[-1] :].strip(" .\n")) == 0
    alone = answer == text and (re.search(r"\d", text) or not WORD.search(text))
    return bool(number.MARK in text or latex.BOX.search(text) or at_end or alone)


def _from_prose(text: str) -> str | None:
    text = LEAD.sub("", text, count=1) if LEAD.match(text) else text
    if expression.read(text):
        return text
    formulas = [(match.start(), match.end(), match[match.lastindex or 0]) for match in FORMULA.finditer(text)]
    if not formulas:
        return _quantity(text)
    start, end, last = formulas[-1]
    value = VALUE_BEHIND.match(text, end)
    if value and equivalence.names(last):
        return number.final_number(text[value.end() :]) or _group(text, formulas)
    if equivalence.names(last) and NAMED_BEFORE.search(text[:start]):
        return number.final_number(_masked(text)) or _group(text, formulas)
    return _group(text, formulas)


def _quantity(text: str) -> str | None:
    """The final number with the unit behind it, where `units` knows that."""
    value = number.final_number(text)
    if value is None:
        ratio = RATIO_AT_END.search(text[-latex.NEAR :])
        return ratio[1] if ratio else None
    place = text.rfind(value)
    behind = UNIT_BEHIND.match(text, place + len(value)) if place >= 0 else None
    words = behind[1].split(" ") if behind else []
    found = (units.canonical(" ".join(words[:count])) for count in range(len(words), 0, -1))
    unit = next(filter(None, found), "")
    return f"{value}\\text{{ {unit}}}" if unit else value


def _group(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The content of the last of ``spans`` (start, end, content), with that of the spans joined to it."""
    return ", ".join(content for *_, content in latex.last_joined(text, spans))


def _masked(text: str) -> str:
    """``text`` with its formulas masked, since a full stop in one does not end a sentence."""
    return FORMULA.sub(lambda formula: "x" * len(formula[0]), text)
