r"""Read LaTeX boxes, and rewrite arithmetic in LaTeX or Unicode as it is typed on a keyboard.

Every function here takes linear time on any completion: its patterns have nothing to backtrack over.
"""

import re
import unicodedata

BOX = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{")
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
