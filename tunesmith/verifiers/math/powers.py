r"""Recognise a power of numbers that is too large to be computed, before an algebra system computes it: 10^{10^{10}}.

An upper bound of its size is enough. What is not recognised (a factorial in an exponent) ends at the time limit.
"""

import math
import re

DIGITS = 50_000
"""Digits of the largest power that is computed."""
EXPONENT = 1_000
"""The largest exponent of brackets, which may have to be multiplied out."""
POWER = re.compile(r"(?P<base>\d+(?:\.\d+)?|[)\]}])?\s*\^\s*(?:\{(?P<braced>[^{}^]*)\}|(?P<digit>\d))")
"""An innermost power; a base that is a letter or a command is not part of it."""
TERM = re.compile(r"[-+]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SYMBOL = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]")
LARGEST = 1e15
"""The largest size that is told from larger ones, as an exponent of a number it is far too large."""


def is_huge(latex: str) -> bool:
    """Whether ``latex`` has a power that is too large to be computed."""
    while power := POWER.search(latex):
        base, exponent = power["base"] or "", _size(power["braced"] or power["digit"] or "")
        size = ""
        if base.isdecimal() or "." in base:
            if exponent * len(base) > DIGITS:
                return True
            size = f"{min(max(float(base), 1.0) ** exponent if exponent * len(base) < 300 else LARGEST, LARGEST):.0f}"
        elif base and exponent > EXPONENT:
            return True
        latex = latex[: power.start()] + (size or base) + latex[power.end() :]
    return False


def _size(exponent: str) -> float:
    """An upper bound of the exponent's absolute value; 1 for one with symbols, which is not computed."""
    if SYMBOL.search(exponent):
        return 1.0
    terms = [[max(float(number[:300]), 1.0) for number in NUMBER.findall(term)] for term in TERM.split(exponent)]
    return min(sum(math.prod(numbers) for numbers in terms if numbers), LARGEST)
