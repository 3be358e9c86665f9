"""Is the final number right?

The final number of a text is the one after its last ``####`` (GSM8K's mark), else the last one in it. Values are
compared exactly: 42, 42.0, +42 and 42. are one number, and thousands commas are read over; 41.999 is another. A
number that a unit touches is read (12.5kg is 12.5), an ordinal (the 12th) is a word. What is not a plain number (1/2,
10^3, 1.5e3, 1.2.3) is never read in part: as the final number, it is no answer rather than a wrong one.
"""

import re
from fractions import Fraction

from tunesmith.verifiers.verdict import Verdict

MARK = "####"
TOKEN = re.compile(r"[-+−]?[$€£]?(?:\d|\.\d)[\w.,/^%]*", re.ASCII)
"""A run of characters that begins like a number; a sign counts only where nothing stands before it to join."""
NUMBER = re.compile(
    r"""
    (?P<number> [-+−]? [$€£]? (?: \d{1,3} (?:,\d{3})+ (?:\.\d+)? | \d+ (?:\.\d+)? | \.\d+ ) )
    (?: %? | (?![eE]\d) [a-zA-Z]+ )  # a percent sign or a unit
    [.,]*                            # the sentence goes on, or ends
    """,
    re.VERBOSE | re.ASCII,
)
BEFORE = re.compile(r"[\w)\].]")
"""After this, what looks like a sign or a number is part of a word or of an expression."""
WORD = re.compile(r"\d+(?:st|nd|rd|th|[xX])[.,]*", re.ASCII)
LONGEST = 100
"""Characters of the longest number: beyond, it is a model that repeats itself."""


def verify(completion: str, reference: str) -> Verdict:
    """Compare the final number of ``completion`` with that of ``reference``."""
    expected = final_number(reference)
    if expected is None:
        return Verdict(0.0, None, f"the reference has no number: {reference[-80:]!r}", "not_gradable")
    found = expected if completion == reference else final_number(completion)
    if found is None:
        return Verdict(0.0, None, "no number in the completion", "no_answer")
    right = found == expected or value(found) == value(expected)
    return Verdict(float(right), found, f"{found} is {'' if right else 'not '}{expected}")


def final_number(text: str) -> str | None:
    """The final number as written, or None. After a ``####`` only what follows it counts, and its first number."""
    if MARK in text:
        numbers = _numbers(text.rsplit(MARK, 1)[1])
        return numbers[0] if numbers else None
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def is_marked(text: str) -> bool:
    """Whether ``text`` says which number is its answer: after a ``####``, or by being nothing else."""
    if MARK in text:
        return final_number(text) is not None
    return len(text) <= LONGEST and NUMBER.fullmatch(text.strip()) is not None


def value(number: str) -> Fraction:
    """The exact value of a number as `final_number` gives it."""
    return Fraction(re.sub("[,$€£]", "", number).replace("−", "-"))


def _numbers(text: str) -> list[str | None]:
    """Every number in the text as written, None for what begins like one and is none."""
    found: list[str | None] = []
    for token in TOKEN.finditer(text):
        written = token[0]
        if BEFORE.match(text[token.start() - 1 : token.start()]):
            if written[0] not in "-+−":
                continue  # inside a word
            written = written[1:]  # 5-3 ends in 3, not -3
        if WORD.fullmatch(written):
            continue
        number = NUMBER.fullmatch(written)
        found.append(number["number"] if number and len(number["number"]) <= LONGEST else None)
    return found
