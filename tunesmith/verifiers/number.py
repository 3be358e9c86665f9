"""Is the final number right?

The final number of a text is the one after its last ``####`` (GSM8K's mark), else the last one in it. Values are
compared exactly: 42, 42.0, +42 and 42. are one number, and thousands commas are read over; 41.999 is another.
"""

import re
from fractions import Fraction

from tunesmith.verifiers.verdict import Verdict

MARK = "####"
NUMBER = re.compile(
    r"""
    (?<![\w.])                      # not inside a word or a longer number
    (?:(?<![\w)\]])[-+−])?          # a sign, unless it joins what stands before it: 5-3 ends in 3, not -3
    \$?
    (?:\d{1,3}(?:,\d{3})+|\d+)      # with thousands commas, or plain
    (?:\.\d+)?
    (?![\w])                        # 12th and 3x are words
    """,
    re.VERBOSE | re.ASCII,
)


def verify(completion: str, reference: str) -> Verdict:
    """Compare the final number of ``completion`` with that of ``reference``."""
    expected = final_number(reference)
    if expected is None:
        return Verdict(0.0, None, f"the reference has no number: {reference[-80:]!r}", "not_gradable")
    found = final_number(completion)
    if found is None:
        return Verdict(0.0, None, "no number in the completion", "no_answer")
    right = value(found) == value(expected)
    return Verdict(float(right), found, f"{found} is {'' if right else 'not '}{expected}")


def final_number(text: str) -> str | None:
    """The final number as written, or None. After a ``####`` only the first number that follows it counts."""
    if MARK in text:
        marked = NUMBER.search(text.rsplit(MARK, 1)[1])
        return marked[0] if marked else None
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers else None


def value(number: str) -> Fraction:
    """The exact value of a number as `final_number` gives it."""
    return Fraction(number.replace(",", "").replace("$", "").replace("−", "-"))
