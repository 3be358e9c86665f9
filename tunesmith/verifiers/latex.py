r"""Read LaTeX boxes, and rewrite arithmetic in LaTeX or Unicode as it is typed on a keyboard.

Every function here takes linear time on any completion: its patterns have nothing to backtrack over.
"""

import re
import unicodedata

BOX = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{")
TAG = re.compile(r"<answer>([^<]{1,2000})</answer>")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
UNREADABLE = " 0^"
"""A placeholder that begins like a number and is not one, so that it is never read in part."""
CHARACTERS: dict[int, str | None] = (
    # Soft hyphens, joiners and marks of direction: 4, a zero-width space and 2 are displayed as 42, and are 42.
    dict.fromkeys([0xAD, 0x2060, 0xFEFF, *range(0x200B, 0x2010)])
    # Hyphens and dashes that models write for a minus sign, without the em dash, which is punctuation.
    | dict.fromkeys(map(ord, "\u2010\u2011\u2012–\ufe63\uff0d"), "-")
    | {ord(digit): "^" + unicodedata.normalize("NFKC", digit) for digit in "⁰¹²³⁴⁵⁶⁷⁸⁹"}
    | {0xFF10 + digit: str(digit) for digit in range(10)}  # full width
)
SYMBOLS = re.compile(r"(?P<digit>\d?)(?P<part>[¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])|[√∛π∞]\s{0,9}", re.ASCII)
COMMANDS = re.compile(
    r"""
    (?P<space> ,\\!\ ? | \\[,!;:\ ] | \{,\} )                                      # thousands: 1\,000 and 1{,}000
    | (?: (?P<digit> \d ) \s? )? \\[dtc]?frac \s{0,9} (?:                  # \frac{1}{2}, \frac12, 1\frac{1}{2}
        \{ \s{0,9} (?P<over> -?\d{1,99} ) \s{0,9} \} \s{0,9} \{ \s{0,9} (?P<under> \d{1,99} ) \s{0,9} \}
        | (?P<a> \d ) (?P<b> \d ) )
    | \^ \s{0,9} \{ \s{0,9} (?P<exponent> [-+]?\d{1,99} ) \s{0,9} \}       # 10^{3}
    | (?P<times> \\times | \\cdot ) (?![a-zA-Z])
    | (?P<degree> \^ \s{0,9} \{? \s{0,9} \\circ \s{0,9} \}? )
    | (?P<unread> \\ (?: pi | theta | phi | infty | (?: log | ln | exp | sin | cos | tan ) (?![a-zA-Z])
        (?: [_^] \{? [\w-]{1,9} \}? )? \s{0,9} [({]? [\d.]{0,99} ) (?![a-zA-Z]) )
    | \\(?: begin | end ) \{ (?: align | equation | gather | split ) [a-z]{0,9} \*? \}
    | \\(?: left | right | displaystyle ) (?![a-zA-Z])
    | \\(?: boxed | fbox | text[a-z]{0,9} | math[a-z]{1,9} | mbox | emph ) \s{0,9} (?= \{ )   # its content is read
    | \\ (?P<escaped> [$%] )
    """,
    re.VERBOSE | re.ASCII,
)
OPAQUE = re.compile(r"(?:\\[a-zA-Z]{1,30}|[\^_])\s{0,9}(?:\[[^][]*\])?(?:\{[^{}]*\}){1,2}")
"""An innermost command with its argument: \\sqrt{2} and \\frac{\\pi}{2} are not 2."""
GAP = r"(?:[$\s~]|\\(?:quad|qquad|[,;:! ()\[\]]))*"
JOINED = re.compile(
    rf"{GAP}(?:(?:,|;|/|\b(?:or|and)\b(?:\s(?:else|maybe|perhaps|possibly|even|also)\b)?"
    rf"|\\(?:text|mathrm|mbox)\{{\s*(?:or|and)\s*\}}){GAP}){{0,2}}"
)
"""What joins two boxes or formulas to one answer of several parts."""
SCALES = "hundred|thousand|million|billion|trillion|dozen"
"""Words that multiply the number before them."""
OPERATOR = r"\\(?:times|cdot|div|pm|mp|bmod|pmod)(?![a-z])"
OPERAND_BEFORE = re.compile(
    rf"(?:{OPERATOR}\s*|\\(?:[dtc]?frac|sqrt|binom|log|ln|sin|cos|tan)\s*(?:\[[^][]*\])?(?:\{{[^{{}}]*\}})?\s*\{{?|[\^_]\s*\{{?"
    r"|(?<!:)[-\u2212]|\d|\d\s*\("
    r"|(?:(?<![a-zA-Z]{2}\s)(?<!\w)(?:\d[\d.,]{0,30}|[a-zA-Z])|(?<![a-zA-Z])[)}\]])\$?\s*[-\u2212*/\u00d7\u00f7+]\s*\$?\s*)$"
)
"""What stands before a box that is a part of an expression: an operator and its other operand, a sign, a function."""
OPERAND_BEHIND = re.compile(
    rf"(?:[\s$]|\\[ ,;:!]|\\text\{{)*(?:{SCALES})s?\b"
    rf"|(?:\s|\\[ ,;:!]|\$\s*(?=[-+*/\u2212\u00d7\u00f7]\s*\$?\d))*(?:{OPERATOR}|\^(?!\s*\{{?\s*\\circ)|\}}\s*\{{"
    r"|[+/\u00d7\u00f7]\s*\$?[\w\\(]|\*\s*[\d\\(]|[-\u2212]\s*\$?(?:[\d\\]|[b-z]\b|\((?![a-zA-Z]{2}))"
    r"|(?:plus|minus|times)\s[\d\\$])|_|[a-zA-Z]\b|\\(?:pi|sqrt|[dtc]?frac)(?![a-z])"
)
"""What stands behind one."""
NEAR = 60
"""Characters before and behind a box that are looked at."""
DEEPEST = 4
"""Levels of nested commands that are replaced."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""The start, the end and the content of every outermost ``\boxed{...}``; "" is the content of one never closed."""
    spans: list[tuple[int, int, str]] = []
    box = BOX.search(text)
    while box:
        end = _closing(text, box.end())
        if end is None:
            spans.append((box.start(), len(text), ""))
            break
        spans.append((box.start(), end + 1, text[box.end() : end]))
        box = BOX.search(text, end + 1)
    return spans


def tagged(text: str) -> str:
    """The content of the last ``<answer>`` in ``text``, if it has one; else ``text``."""
    found = TAG.findall(text)
    return str(found[-1]) if found else text


def last_joined(text: str, spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The last of ``spans`` (start, end, content), with those before it that nothing but a comma or an "or" parts."""
    first = len(spans) - 1
    while first and JOINED.fullmatch(text, spans[first - 1][1], spans[first][0]):
        first -= 1
    return spans[first:]


def is_operand(text: str, start: int, end: int) -> bool:
    r"""Whether the box from ``start`` to ``end`` is a part of an expression, and not its value: \boxed{42} \times 2."""
    before, behind = text[max(0, start - NEAR) : start], text[end : end + NEAR]
    line = before.rpartition("\n")[2]
    return OPERAND_BEFORE.search(line) is not None or OPERAND_BEHIND.match(behind.partition("\n")[0]) is not None


def _closing(text: str, start: int) -> int | None:
    """The position of the brace that closes the one before ``start``; None where it stays open."""
    depth = 1
    for brace in BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None


def plain(text: str) -> str:
    r"""Rewrite \frac{1}{2} and ½ as 1/2, 3\times10^{2} as 3×10^2, \text{no} as {no}, the rest as `UNREADABLE`."""
    text = SYMBOLS.sub(_plain_symbol, text.translate(CHARACTERS))
    if "\\" not in text and "{" not in text:
        return text
    text = COMMANDS.sub(_plain_command, text)
    for _ in range(DEEPEST):
        text, count = OPAQUE.subn(UNREADABLE, text)
        if not count:
            break
    return text


def _plain_symbol(symbol: re.Match[str]) -> str:
    if symbol["part"] is None:
        return UNREADABLE
    return _fraction(symbol["digit"], unicodedata.normalize("NFKC", symbol["part"]).replace("\u2044", "/"))


def _fraction(before: str, fraction: str) -> str:
    """``fraction`` alone, or as part of a mixed number, behind the digit ``before``."""
    return before + (" " if before.isdigit() else "") + fraction


def _plain_command(command: re.Match[str]) -> str:
    match command.lastgroup:
        case "space":
            return "\N{THIN SPACE}"
        case "under":
            return _fraction(command["digit"] or "", f"{command['over']}/{command['under']}")
        case "b":
            return _fraction(command["digit"] or "", f"{command['a']}/{command['b']}")
        case "exponent":
            return "^" + command["exponent"]
        case "times":
            return "×"
        case "degree":
            return "°"
        case "unread":
            return UNREADABLE
        case _:
            return command["escaped"] or ""
