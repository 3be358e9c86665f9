r"""Take a mathematical expression as written apart into an `Answer`.

Units, currencies, a percent sign and the base of a numeral are not part of the value: 50% is 50, and is not 0.5. A
ratio 1:2 is the fraction 1/2; (p, q) = (3, 2) is (3, 2); 3 < x < 5 is the interval (3, 5), and x > 5 is (5, \infty).
Text that an algebra system would read otherwise than it is meant (1.2.3, 1 2, a word as a product of its letters) is
not read at all.
"""

import re
from itertools import accumulate
from typing import Literal

from tunesmith.verifiers.math import units
from tunesmith.verifiers.math.equivalence import COMMAND, NAME, Answer

LONGEST = 300
"""Characters of the longest expression that is read; parsing a longer one takes seconds."""
DEEPEST = 16
"""Levels of brackets of the deepest expression that is read, and the number of its bars; parsing more takes seconds."""
UNICODE = {
    **{"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty "},
    **{"≤": r"\le ", "≥": r"\ge ", "\u222a": r"\cup ", "√": r"\sqrt ", "°": r"^\circ", "²": "^{2}", "³": "^{3}"},
    **{
        "\xa0": " ",
        "\u2009": r"\,",
        "\u202f": r"\,",
        "<=": r"\le ",
        ">=": r"\ge ",
        r"\dfrac": r"\frac",
    },
    **{r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\leq": r"\le", r"\geq": r"\ge", r"\$": "$", "**": "", "`": ""},
    **{r"\lt": "<", r"\gt": ">", r"\colon": ":", r"\dots": r"\ldots"},
}
IGNORED = re.compile(
    r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\\[!;:]|\\(?= )|\$(?!\s*[\d.])|^\\[(\[]|\\[)\]]$"
)
LETTER = re.compile(r"\\(?:mathrm|mathit|mathbf|boldsymbol|operatorname)\{\s*([a-zA-Z]|\d+|pi)\s*\}")
"""A letter or a number in another type: \\mathrm{e}."""
THIN = re.compile(r"(?<=\d)(?:,(?:\\!\s?)|\\,|\{,\}|(?<=^\d) |(?<=^\d\d) |(?<=^\d\d\d) )(?=\d{3}(?![\d/]))")
THOUSANDS = re.compile(r"((?:.*=)?\s*[-+]?\s*[$€£]?)(\d{1,3}(?:,\d{3})+)((?:\.\d+)?\D*)", re.ASCII)
NAMED = re.compile(r"\(\s*[a-zA-Z](?:_\w)?(?:\s*,\s*[a-zA-Z](?:_\w)?){1,5}\s*\)\s*=\s*(?=[(\[])")
"""The names of an ordered answer."""
RATIO = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)((?:\s*:\s*\d{1,30}(?:\.\d{1,30})?){1,5})")
CLOCK = re.compile(r"\d{1,2}:[0-5]\d")
RELATION = re.compile(r"\s*(<|>|\\le(?![a-z])|\\ge(?![a-z]))\s*")
MEMBER = re.compile(r"[a-zA-Z]\s*\\in\s*(?=[(\[\\])")
CURRENCY = re.compile(r"[-+\u2212]?\s*([$€£])")
CONNECTIVE = re.compile(r"\s*,?\s*(?:\\text\{\s*(?:or|and)\s*\}|\b(?:or|and)\b)\s*")
WORDS = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf)\{([^{}\\]*[a-zA-Z][^{}\\]*)\}")
PROSE = re.compile(r"(?=.*[a-zA-Z]{4})[a-zA-Z]+(?: [a-zA-Z]+){0,2}|yes|no", re.IGNORECASE)
TEXT_UNIT = r"\\(?:text|mathrm|mbox|textrm)\{[^{}\d]*\}(?:\^\{?[23]\}?)?"
SHORT_UNIT = r"(?:[ckm]?m|[km]?g|ml|ft|in|lbs?|oz|hrs?|min|sec|mph|cents?)(?:\^\{?[23]\}?)?"
LONG_UNIT = (
    r"(?!(?:hundred|thousand|million|billion|trillion|times|plus|minus)\b)[a-zA-Z]{4,20}(?: [a-zA-Z]{2,20}){0,2}"
)
UNIT = re.compile(
    rf"(?<=[\w}})])(?:\s*(?:[€£$¢]|\\?%|\\?\bpercent|\^\{{?\s*\\circ\s*\}}?|{TEXT_UNIT})|(?<=[\d}}])\s+(?:{SHORT_UNIT}|{LONG_UNIT}))$"
)
FRACTION = r"\\frac\s*\{?(?P<over>\d+?)\}?\s*\{?(?P<under>\d+)\}?|\s(?P<a>\d+)/(?P<b>\d+)"
MIXED = re.compile(rf"(?P<sign>-?)\s*(?P<whole>\d+)\s*(?:{FRACTION})")
SCIENTIFIC = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})")
BASE = re.compile(r"(-?\d+)_\{?(\d+)\}?")
POWER = re.compile(r"(\^|(?<=[a-z])_)([-+]?\d+)")
FUNCTION = re.compile(r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|log|ln|exp|sqrt|pi)(?![a-zA-Z])")
MATRIX = re.compile(r"\\(?:begin|end)\{[bpv]?matrix\}")
UNREADABLE = re.compile(
    r"\d\s+[\d.]|\.\d*\.|\d\.\s|[a-zA-Z]{4}|[a-zA-Z]{2}\s+[a-zA-Z]|[a-zA-Z]\s+[a-zA-Z]{2}"
    r"|\b(?:not|no|is)\b|\d\s*_|[^\x20-\x7e]|[%#~\"?:$]"
)
"""Text that an algebra system would read otherwise than it is meant."""
FORBIDDEN = re.compile(r"\\(?:circ|text\w*|math(?:rm|bf|it)|mbox|boxed|fbox)(?![a-zA-Z])")


def read(text: str) -> Answer | None:
    """Take ``text`` apart; None where it is not a mathematical expression, or could be misread."""
    for written, plain in UNICODE.items():
        text = text.replace(written, plain)
    text = LETTER.sub(_letter, THIN.sub("", text.strip()))
    text = THIN.sub("", IGNORED.sub("", text).strip().strip("*").rstrip(".,;: ").strip())
    return _read(text.replace(r"\,", " ")) if 0 < len(text) <= LONGEST and _depth(text) <= DEEPEST else None


def _letter(match: re.Match[str]) -> str:
    before = match.string[match.start() - 1 : match.start()]
    return (" " if before.isalpha() else "") + (r"\pi " if match[1] == "pi" else match[1])


def _depth(text: str) -> int:
    levels = accumulate((mark in "([{") - (mark in ")]}") for mark in text)
    return max(text.count("|"), *levels)


def _read(text: str) -> Answer | None:
    text = text.strip()
    words = WORDS.fullmatch(text)
    if words or PROSE.fullmatch(text):
        phrase = " ".join((words[1] if words else text).strip("() .").split())
        return Answer("words", phrase.casefold() if len(phrase) > 1 else phrase)
    joined = CONNECTIVE.sub(", ", text)
    if joined != text and all(map(_interval, _split(joined, (",",)))):
        return _parts("unordered", r"\cup", _split(joined, (",",)))  # x < 1 or x > 2
    text = MEMBER.sub("", NAMED.sub("", joined))
    ratio = RATIO.fullmatch(text)
    if ratio and not CLOCK.fullmatch(text):
        terms = [ratio[1], *re.findall(r"[\d.]+", ratio[2])]
        return _read(rf"\frac{{{terms[0]}}}{{{terms[1]}}}") if len(terms) == 2 else _parts("ordered", ":", terms)
    interval = _interval(text)
    if interval:
        return _parts("ordered", interval[0], list(interval[1:]))
    grouped = THOUSANDS.fullmatch(text)
    if grouped:
        text = grouped[1] + grouped[2].replace(",", "") + grouped[3]
    for separators, brackets in ((r"\cup",), r"\cup"), ((",", ";"), "{}"):
        parts = _split(text, separators)
        if len(parts) > 1:
            return _parts("unordered", brackets, parts)
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return _parts("unordered", "{}", _split(text[2:-2], (",", ";")))
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and len(_split(text[1:-1], (",", ";"))) > 1:
        return _parts("ordered", text[0] + text[-1], _split(text[1:-1], (",", ";")))
    based = BASE.fullmatch(text)
    if based:
        return Answer("value", based[2], (based[1],))
    if text.count(r"\pm") == 1:
        return _parts("unordered", "{}", [text.replace(r"\pm", sign) for sign in "+-"])
    written = _split(text, ("=",))
    sides = tuple(side for side in map(_value, written) if side)
    return Answer("value", sides=sides, unit=_unit(written[-1])) if len(sides) == len(written) else None


def _interval(text: str) -> tuple[str, str, str] | None:
    """The brackets and the ends of the interval that an inequality of one name states; None for any other text."""
    pieces = RELATION.split(text.strip())
    if len(pieces) == 5 and NAME.fullmatch(pieces[2]) and "<" in pieces[1].replace("\\le", "<"):
        low, first, _, second, high = pieces
        if second not in ("<", r"\le"):
            return None
    elif len(pieces) == 5 and NAME.fullmatch(pieces[2]):
        high, second, _, first, low = pieces
        if first not in (">", r"\ge"):
            return None
    elif len(pieces) == 3 and (NAME.fullmatch(pieces[0]) or NAME.fullmatch(pieces[2])):
        name, relation, end = pieces if NAME.fullmatch(pieces[0]) else pieces[::-1]
        above = (relation in (">", r"\ge")) == (name == pieces[0])
        low, high = (end, r"\infty") if above else (r"-\infty", end)
        first = second = relation
    else:
        return None
    if any(re.search("[a-zA-Z]", COMMAND.sub("", end)) or not end for end in (low, high)):
        return None
    opening = "[" if first in (r"\le", r"\ge") and low != r"-\infty" else "("
    closing = "]" if second in (r"\le", r"\ge") and high != r"\infty" else ")"
    return opening + closing, low, high


def _unit(text: str) -> str:
    """The unit of a value as written, as `units` compares it."""
    currency, unit = CURRENCY.match(text), UNIT.search(text)
    return currency[1] if currency else units.canonical(unit[0]) if unit else ""


def _parts(kind: Literal["ordered", "unordered"], brackets: str, texts: list[str]) -> Answer | None:
    parts = [_read(text) for text in texts]
    return Answer(kind, brackets, parts=tuple(part for part in parts if part)) if all(parts) else None


def _split(text: str, separators: tuple[str, ...]) -> list[str]:
    """Split ``text`` at the ``separators`` outside of all brackets."""
    pieces, depth, start = [], 0, 0
    for position, mark in enumerate(text):
        depth += (mark in "([{") - (mark in ")]}")
        for separator in separators if depth == 0 else ():
            if text.startswith(separator, position):
                pieces.append(text[start:position])
                start = position + len(separator)
    return [*pieces, text[start:]]


def _value(text: str) -> str | None:
    """Write one side of an equation for the algebra system; None where it could be misread."""
    text = CURRENCY.sub(lambda sign: sign[0].rstrip("$€£"), text.strip(), count=1).strip()
    if NAME.fullmatch(text):
        return text
    for _ in range(3):
        text = UNIT.sub("", text).strip()
    mixed, scientific = MIXED.fullmatch(text), SCIENTIFIC.fullmatch(text)
    if mixed:
        over, under = mixed["over"] or mixed["a"], mixed["under"] or mixed["b"]
        text = f"{mixed['sign']}({mixed['whole']}+\\frac{{{over}}}{{{under}}})"
    if scientific:
        text = f"{scientific[1]}\\cdot 10^{{{scientific[2]}}}"
    text = POWER.sub(r"\1{\2}", FUNCTION.sub(r"\\\1", text))
    letters = COMMAND.sub("@", MATRIX.sub("@", text))
    return None if not text or UNREADABLE.search(letters) or FORBIDDEN.search(text) else text
