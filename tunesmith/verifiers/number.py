r"""Compare the final number of the completion with that of the reference.

The final number of a text is the one in its last ``\boxed{...}``, else the first after its last ``####`` (GSM8K's
mark), else the last one of its last statement of the answer ("The answer is 42, since ..."), else the last one in it;
of box and mark, the later one decides. Where a box holds several numbers, the last one is the answer only behind an
equals sign.

Without a box or a mark, the last number must be what the text comes to (`unmarked`). It is no answer in a question or a
sentence that says that none is known, in a range, a list or a choice (between 2000 and 2005; 3 or 4), behind a bound
(more than 5), a label (step 2) or an operator that no equals sign precedes (17 + 25, n - 1, 20-30), nor in brackets
behind a name (f(0), x_2).

Values are compared exactly, as fractions: 42, 42.0, +42 and 42. are one number; 41.999 is another, and 0.333 is not
1/3. These forms are read: thousands (1,000 1_000 1'000 1\,000, a thin or no-break space; an ordinary space only where
the number is the whole answer: elsewhere 5 100 may be two numbers, and is no answer), fractions and mixed numbers
(1/2, \frac{1}{2}, 1 1/2), powers of ten (1.5e3, 10^3, 1.5 × 10^3), amounts of money, and numbers that a unit touches
(12.5kg). A percent sign is a unit: 50% is 50, and is not 0.5. An ordinal (the 12th) is a word.

An expression that is not one plain number (2^10, 1.2.3, 2024-05-01, 12:30, 7/8/9, 1,2, √2, 2n, 5 million) is never
read in part: as the final number, it is no answer rather than a wrong one.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers import latex, unmarked
from tunesmith.verifiers.verdict import Columns, Verdict

MARK = "####"
THOUSANDS = ",_'\u2019\xa0\u2009\u202f"
TOKEN = re.compile(
    rf"""
    [-+−]? [$€£]?
    (?: \d{{1,99}} [ ] \d{{1,99}} / \d{{1,99}} (?! [\w/^] | \.\d )                                 # 1 1/2
      | \d{{1,3}} (?: [ ] \d{{3}} )+ (?!\d)                                                      # 1 000
      | (?: \d{{1,99}} (?:\.\d{{1,99}})? [ ]? [x×*] [ ]? )? 10\^ [-+−]? \d [\w.,/^%]*            # 1.5 × 10^3
      | \d{{1,99}} (?:\.\d{{1,99}})? [eE] [-+−] \d [\w.,/^%]*                                    # 1e-3
      | \d{{1,99}} (?: (?: : \d{{1,99}} )+ | (?: - \d{{1,99}} ){{2,}} ) [\w.,/^%]*               # a time, a date
      | (?: \d | \.\d ) (?: [\w.,/^%] | [{THOUSANDS}] (?=\d{{3}}) )*
    )
    """,
    re.VERBOSE | re.ASCII,
)
"""A run of characters that begins like a number; its sign counts unless something before it makes it an operator."""
NUMBER = re.compile(
    rf"""
    (?P<number> [-+−]? [$€£]? (?:
        (?: (?P<wholes> \d+ ) [ ] )? (?P<over> \d+ ) / (?P<under> 0* [1-9] \d* )
      | (?: (?: \d{{1,3}} (?:[{THOUSANDS}]\d{{3}})+ | \d+ ) (?:\.\d+)? [ ]? [x×*] [ ]? )? 10\^ [-+−]? \d{{1,3}}
      | (?: \d{{1,3}} (?:[{THOUSANDS}]\d{{3}})+ (?:\.\d+)? | \d+ (?:\.\d+)? | \.\d+ ) (?: [eE] [-+−]? \d{{1,3}} )?
    ) )
    (?: %?                                                               # a percent sign or a unit
      | (?! [eE]\d | (?: [kKM] | [bm]n | hundred | thousand | [mb]illion | trillion )\b ) [a-zA-Z]+ (?: / [a-zA-Z]+ )?
      | / [a-zA-Z]{{2,}} )
    [.,]*                                                                # the punctuation of the sentence
    """,
    re.VERBOSE | re.ASCII,
)
SPACED = re.compile(r"([-+−]?[$€£]?)(\d{1,3}(?: \d{3})+)((?:\.\d+)?\D{0,20})", re.ASCII)
"""A whole answer: a number with spaces between its thousands, and its unit."""
BEFORE = re.compile(r"[\w)\].^]")
"""A character after which a sign or a number is part of a word or of an expression."""
SIGN = re.compile(r"((?:^|=)\s{0,9}[-−])\s{1,9}(?=[\d.$€£])")
"""A sign with a space behind it that cannot be a subtraction, since nothing to subtract from stands before it."""
SCALE = re.compile(r"\s?(?:hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
"""A word that multiplies the number before it."""
WORD = re.compile(r"\d+(?:st|nd|rd|th|[xX])[.,]*", re.ASCII)
"""Digits that begin a word: an ordinal, or 3x."""
VARIABLE = re.compile(r"[\d.][abcefijknopqrtuvwxyz](?:/\d+)?[.,]*$", re.ASCII)
"""The end of a multiple of a variable, which is no unit: 2n."""
LONGEST = 100
"""Characters of the longest number; a longer one is the output of a model that repeats itself."""


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the final number of ``completion`` with that of the row's reference."""
    return compare(completion, reference(row))


def compare(completion: str, reference: str) -> Verdict:
    """Compare the final number of ``completion`` with that of ``reference``."""
    expected = final_number(reference)
    if expected is None:
        return Verdict(0.0, None, f"the reference has no number: {reference[-80:]!r}", "not_gradable")
    answer = expected if completion == reference else final_number(completion)
    if answer is None:
        return Verdict(0.0, None, "no number in the completion", "no_answer")
    right = answer == expected or value(answer) == value(expected)
    return Verdict(float(right), answer, f"{answer} is {'' if right else 'not '}{expected}")


def final_number(text: str) -> str | None:
    """The final number, without LaTeX, or None. Where a text has a box or a ``####``, no other number counts."""
    _, mark, after = text.rpartition(MARK)
    boxes = latex.boxes(after)
    if boxes:
        numbers = _numbers(_whole(boxes[-1][2].rpartition("=")[2]))
        return numbers[0] if len(numbers) == 1 else None
    if mark:
        numbers = _numbers(_whole(after))
        return numbers[0] if numbers else None
    text = _whole(unmarked.EMPHASIS.sub("", unmarked.stated(after) or after))
    found = list(_found(text))
    if not found:
        return None
    start, end, written = found[-1]
    previous = found[-2][1] if len(found) > 1 else None
    return written if unmarked.is_outcome(text, start, end, previous) else None


def is_marked(text: str) -> bool:
    """Whether ``text`` marks its answer: in a box, after a ``####``, or by holding nothing but a number."""
    if MARK in text or latex.BOX.search(text):
        return final_number(text) is not None
    return len(text) <= LONGEST and NUMBER.fullmatch(_whole(text)) is not None


def value(number: str) -> Fraction:
    """The exact value of a number as `final_number` gives it."""
    body = re.sub(f"[{THOUSANDS}$€£+]", "", number).replace("−", "-")
    sign, body = (-1, body[1:]) if body.startswith("-") else (1, body)
    if "^" in body:
        factor, power = re.split(r"10\^", body)
        return sign * Fraction(factor.rstrip(" x×*") or 1) * Fraction(10) ** int(power)
    wholes, _, rest = body.rpartition(" ")
    return sign * (Fraction(wholes or 0) + Fraction(rest))


def _whole(answer: str) -> str:
    """``answer`` in plain text, with commas for the spaces between the thousands of a number that is all of it."""
    text = SIGN.sub(r"\1", latex.plain(answer).strip())
    spaced = SPACED.fullmatch(text)
    return spaced[1] + spaced[2].replace(" ", ",") + spaced[3] if spaced else text


def _numbers(text: str) -> list[str | None]:
    """Every number in the text as written, and None for every token that only begins like one."""
    return [written for _, _, written in _found(text)]


def _found(text: str) -> Iterator[tuple[int, int, str | None]]:
    """The start and the end of every token, with its number."""
    for token in TOKEN.finditer(text):
        written = token[0]
        before, after = text[token.start() - 1 : token.start()], text[token.end() : token.end() + 10]
        if BEFORE.match(before):
            if written[0] not in "-+−":
                continue  # inside a word
            written = written[1:]  # 5-3 ends in 3, not -3
        if not WORD.fullmatch(written):
            other_script = any(mark.isnumeric() and not mark.isascii() for mark in before + after[:1])
            is_part = before == "/" or SCALE.match(after) or other_script
            start = token.end() - len(written)
            yield start, start + len(written.rstrip(".,")), None if is_part else _number(written)


def _number(written: str) -> str | None:
    number = NUMBER.fullmatch(written)
    if number is None or len(number["number"]) > LONGEST or VARIABLE.search(written):
        return None
    mixed = number["wholes"]
    return None if mixed and int(number["over"]) >= int(number["under"]) else number["number"]
