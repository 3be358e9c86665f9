r"""Whether two mathematical answers are the same, up to the values that an algebra system compares.

Brackets, order, names and words are compared here, as they are written: (1, 2) is a pair or an open interval and is
not {1, 2}, [1, 2) is neither; a list without brackets is a set, in any order; x = 5 is 5, but not y = 5, and 2x = 5
is no 5; in a chain (x = 3 + 2 = 5) every value must be the same. Words are compared as words.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

MOST = 12
"""Sides of the longest chain of equations that is compared."""
NAME = re.compile(
    r"(?:\\?[a-zA-Z]|\\(?!pi\b)[a-z]+|[A-Z]{2,4})(?:_(?:\w|\{\w+\}))?'?"
    r"|[fghpqFGHPQ]'?\([^()=]{1,20}\)|\\angle\s*[A-Z]{1,3}|[a-zA-Z]{4,20}|\\text\{[a-zA-Z]{1,20}\}"
)
OPERATOR = re.compile(r"\\(?:int|sum|prod|lim|det|binom|dbinom|operatorname|partial)(?![a-zA-Z])|\\frac\{d\}|!")
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+|\d+/\d+|\\[dt]?frac\{?\d+\}?\{?\d+\}?)")
TEN = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:\\times|\\cdot|\*)\s*)?10\s*\^\s*(?:\{\s*[-+]?\d+\s*\}|\d)")
"""A power of ten, which is a way to write a number."""
MIXED = re.compile(r"[-+]?\s*\(?\d+(?:(?:\s*\+\s*|\s+)\d+/\d+|\s*\+?\s*\\[dt]?frac\{?\d+\}?\{?\d+\}?)\)?")
UNWORKED = re.compile(
    r"[+*^!]|(?<=[\w)}\]])\s*-|\\(?:cdot|times|div|max|min|gcd|lcm|lfloor|lceil|sqrt|binom|log|ln|lg|exp|sin|cos|tan"
    r"|bmod|pmod|mod|left|right|vert)(?![a-zA-Z])|\|"
)
DIVIDED = re.compile(r"/(?!\s*1\b)|\\[dtc]?frac(?!\{\d+\}\{1\}|[a-zA-Z])")
COMMAND = re.compile(r"\\[a-zA-Z]+")


@dataclass(frozen=True)
class Answer:
    """kind: one value, words, or parts in an order or in none.

    text: the words; around parts, their brackets; of a value, the base it is written in, if that is given.
    sides: what the equals signs of a value separate, one for a bare value.
    """

    kind: Literal["value", "words", "ordered", "unordered"]
    text: str = ""
    sides: tuple[str, ...] = ()
    parts: "tuple[Answer, ...]" = ()

    @property
    def name(self) -> str | None:
        return self.sides[0] if len(self.sides) > 1 and NAME.fullmatch(self.sides[0]) else None

    @property
    def values(self) -> tuple[str, ...]:
        return self.sides[1:] if self.name else self.sides

    def expressions(self) -> Iterator[str]:
        """Every single expression in it."""
        yield from (side for side in self.sides if side != self.name)
        for part in self.parts:
            yield from part.expressions()


Equal = Callable[[str, str], bool]
"""Whether two expressions in LaTeX have the same value, the reference's first."""


def same(gold: Answer, found: Answer, equal: Equal) -> bool:
    """Whether ``found`` is the answer that ``gold`` is."""
    if "words" in (gold.kind, found.kind):
        return _words(gold) is not None and _words(gold) == _words(found)
    if gold.kind == found.kind == "value":
        return _same_value(gold, found, equal)
    if len(gold.parts) == 1 and found.kind == "value":
        return same(gold.parts[0], found, equal)  # {5} is 5
    if len(found.parts) == 1 and gold.kind == "value":
        return same(gold, found.parts[0], equal)
    if (gold.kind, gold.text, len(gold.parts)) != (found.kind, found.text, len(found.parts)):
        return False
    if gold.kind == "ordered":
        return all(same(one, other, equal) for one, other in zip(gold.parts, found.parts, strict=True))
    left = list(found.parts)
    if len({part.name for part in gold.parts}) > 1 and {part.name for part in gold.parts} != {p.name for p in left}:
        return False  # of x = 1, y = 2 and 2, 1 nobody knows which is x
    for part in gold.parts:
        match = next((other for other in left if same(part, other, equal)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_value(gold: Answer, found: Answer, equal: Equal) -> bool:
    """Two values; of an equation on one side only, the value it gives."""
    if gold.text and found.text and gold.text != found.text:
        return False
    if len(gold.sides) > 1 and len(found.sides) > 1 and (gold.name is None or gold.name != found.name):
        return len(gold.sides) == len(found.sides) == 2 and _equal("=".join(gold.sides), "=".join(found.sides), equal)
    if not _is_worked(gold.values[-1], found.values[-1]):
        return False
    every = gold.values + found.values
    return all(_equal(one, other, equal) for one, other in pairwise(every)) if len(every) <= MOST else False


def _is_worked(gold: str, found: str) -> bool:
    """Whether a number that is asked for is given as one: 17 + 25 is not the answer, nor is 84/2, where 42 is."""
    if not NUMBER.fullmatch(gold.strip()):
        return True
    left = "1/1" if MIXED.fullmatch(found.strip()) else TEN.sub("1", found)
    whole = gold.strip().lstrip("-+").isdigit()
    return not (UNWORKED.search(left) or (whole and DIVIDED.search(left)))


def _equal(gold: str, found: str, equal: Equal) -> bool:
    """Equal, and written as an answer: a sum or an integral that is left to be worked out is the question again."""
    if OPERATOR.search(found) and not OPERATOR.search(gold):
        return False
    letters = [set(re.findall("[a-zA-Z]", COMMAND.sub("", text))) for text in (gold, found)]
    if any(letter.swapcase() in letters[1] and letter not in letters[1] for letter in letters[0] - set("eE")):
        return False  # the algebra system folds case
    return equal(gold, found)


def _words(answer: Answer) -> str | None:
    if answer.kind == "words":
        return answer.text
    return answer.sides[-1] if answer.kind == "value" and len(answer.sides) == 1 else None
