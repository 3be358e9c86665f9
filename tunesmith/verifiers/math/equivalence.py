r"""Decide whether two mathematical answers are the same, given an algebra system that compares values.

Brackets, order, names and words are compared here, as written: (1, 2) is a pair or an open interval and is
not {1, 2}, [1, 2) is neither; a list without brackets is a set, in any order; x = 5 is 5, but not y = 5, and 2x = 5
is not 5; in a chain (x = 3 + 2 = 5) every value must be the same. Words are compared as words. Where both have a unit,
it must be the same one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

MOST = 12
"""Values in the longest chain of equations that is compared."""
NAME = re.compile(
    r"(?:\\?[a-zA-Z]|\\(?!pi\b)[a-z]+|[A-Z]{2,4})(?:_(?:\w|\{\w+\}))?'?"
    r"|[fghpqFGHPQ]'?\([^()=]{1,20}\)|\\angle\s*[A-Z]{1,3}|[a-zA-Z]{4,20}|\\text\{[a-zA-Z]{1,20}\}"
)
OPERATOR = re.compile(r"\\(?:int|sum|prod|lim|det|binom|dbinom|operatorname|partial)(?![a-zA-Z])|\\frac\{d\}|(?<!\\)!")
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+|\d+/\d+|\\[dt]?frac\{?\d+\}?\{?\d+\}?)")
TEN = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:\\times|\\cdot|\*)\s*)?10\s*\^\s*(?:\{\s*[-+]?\d+\s*\}|\d)")
"""A power of ten, which is a way of writing a number."""
MIXED = re.compile(r"[-+]?\s*\(?\d+(?:(?:\s*\+\s*|\s+)\d+/\d+|\s*\+?\s*\\[dt]?frac\{?\d+\}?\{?\d+\}?)\)?")
UNWORKED = re.compile(
    r"[+*^!]|(?<=[\w)}\]])\s*-|\\(?:cdot|times|div|max|min|gcd|lcm|lfloor|lceil|sqrt|binom|log|ln|lg|exp|sin|cos|tan"
    r"|bmod|pmod|mod|left|right|vert)(?![a-zA-Z])|\|"
)
DIVIDED = re.compile(r"/(?!\s*1\b)|\\[dtc]?frac(?!\{\d+\}\{1\}|[a-zA-Z])")
COMMAND = re.compile(r"\\[a-zA-Z]+")


@dataclass(frozen=True)
class Answer:
    """An answer, taken apart."""

    kind: Literal["value", "words", "ordered", "unordered"]
    """One value, words, or parts whose order counts or does not."""
    text: str = ""
    """The words; the brackets around parts; the base in which a value is written, if that is given."""
    sides: tuple[str, ...] = ()
    """The sides of the equals signs of a value; a bare value is a single side."""
    unit: str = ""
    """The unit of a value, where it has one that `units` knows."""
    parts: "tuple[Answer, ...]" = ()

    @property
    def name(self) -> str | None:
        return self.sides[0] if len(self.sides) > 1 and NAME.fullmatch(self.sides[0]) else None

    @property
    def values(self) -> tuple[str, ...]:
        return self.sides[1:] if self.name else self.sides

    def expressions(self) -> Iterator[str]:
        """Every expression in the answer, without its names."""
        yield from (side for side in self.sides if side != self.name)
        for part in self.parts:
            yield from part.expressions()


def names(text: str) -> bool:
    """Whether ``text`` names a quantity, and is not the value of one: n, f(3), x + y."""
    text = text.strip()
    return NAME.fullmatch(text) is not None or (
        "=" not in text and re.search(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", COMMAND.sub(" ", text)) is not None
    )


Equal = Callable[[str, str], bool]
"""Whether two expressions in LaTeX have the same value, the reference's first."""


def same(gold: Answer, answer: Answer, equal: Equal) -> bool:
    """Whether ``answer`` is the same answer as ``gold``."""
    if "words" in (gold.kind, answer.kind):
        return _words(gold) is not None and _words(gold) == _words(answer)
    if gold.kind == answer.kind == "value":
        return _same_value(gold, answer, equal)
    if len(gold.parts) == 1 and answer.kind == "value":
        return same(gold.parts[0], answer, equal)  # {5} is 5
    if len(answer.parts) == 1 and gold.kind == "value":
        return same(gold, answer.parts[0], equal)
    if (gold.kind, gold.text, len(gold.parts)) != (answer.kind, answer.text, len(answer.parts)):
        return False
    if gold.kind == "ordered":
        return all(same(part, other, equal) for part, other in zip(gold.parts, answer.parts, strict=True))
    remaining = list(answer.parts)
    names = {part.name for part in gold.parts}
    if len(names) > 1 and names != {part.name for part in remaining}:
        return False  # in 2, 1 nothing says which is x, for x = 1, y = 2
    for part in gold.parts:
        match = next((other for other in remaining if same(part, other, equal)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True


def _same_value(gold: Answer, answer: Answer, equal: Equal) -> bool:
    """Compare two values; where only one is an equation, by the value that it gives."""
    if (gold.text and answer.text and gold.text != answer.text) or (gold.unit and answer.unit not in ("", gold.unit)):
        return False
    if len(gold.sides) > 1 and len(answer.sides) > 1 and (gold.name is None or gold.name != answer.name):
        return len(gold.sides) == len(answer.sides) == 2 and _equal("=".join(gold.sides), "=".join(answer.sides), equal)
    if not _is_worked(gold.values[-1], answer.values[-1]):
        return False
    values = gold.values + answer.values
    return len(values) <= MOST and all(_equal(value, other, equal) for value, other in pairwise(values))


def _is_worked(gold: str, answer: str) -> bool:
    """Whether an answer is a number where the reference is one: where 42 is right, 17 + 25 is not, nor is 84/2."""
    if not NUMBER.fullmatch(gold.strip()):
        return True
    remainder = "1/1" if MIXED.fullmatch(answer.strip()) else TEN.sub("1", answer)
    whole = gold.strip().lstrip("-+").isdigit()
    return not (UNWORKED.search(remainder) or (whole and DIVIDED.search(remainder)))


def _equal(gold: str, answer: str, equal: Equal) -> bool:
    """Whether ``answer`` has an equal value and is worked out: a sum or an integral repeats the question."""
    if OPERATOR.search(answer) and not OPERATOR.search(gold):
        return False
    letters = [set(re.findall("[a-zA-Z]", COMMAND.sub("", text))) for text in (gold, answer)]
    if any(letter.swapcase() in letters[1] and letter not in letters[1] for letter in letters[0] - set("eE")):
        return False  # the algebra system ignores case
    return equal(gold, answer)


def _words(answer: Answer) -> str | None:
    if answer.kind == "words":
        return answer.text
    return answer.sides[-1] if answer.kind == "value" and len(answer.sides) == 1 else None
