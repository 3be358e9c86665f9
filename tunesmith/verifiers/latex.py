r"""What a LaTeX box holds, and arithmetic in LaTeX or in Unicode as it is written on a keyboard.

Every function here is linear in the text: its patterns have nothing to go back over, whatever the completion.
"""

import re
import unicodedata

BOX = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
UNREAD = " 0^"
"""Begins like a number and is none, so it is never read in part."""
CHARACTERS: dict[int, str | None] = (
    # Soft hyphens, joiners and marks of direction: 4, a zero-width space and 2 show as 42, and are 42.
    dict.fromkeys([0xAD, 0x2060, 0xFEFF, *range(0x200B, 0x2010)])
    # Hyphens and dashes that models write for a minus sign. Not the em dash, which is punctuation.
    | dict.fromkeys(map(ord, "\u2010\u2011\u2012–\ufe63\uff0d"), "-")
    | {ord(digit): "^" + unicodedata.normalize("NFKC", digit) for digit in "⁰¹²³⁴⁵⁶⁷⁸⁹"}
    | {0xFF10 + digit: str(digit) for digit in range(10)}  # full width
)
SYMBOLS = re.compile(r"(?P<digit>\d?)(?P<part>[¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])|[√∛π∞]\s{0,9}", re.ASCII)
COMMANDS = re.compile(
    r"""
    (?P<space> \\[,!;:\ ] | \{,\} )                                        # thousands: 1\,000 and 1{,}000
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
"""A command with its argument, the innermost ones: \\sqrt{2} and \\frac{\\pi}{2} are no 2."""
DEEPEST = 4


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Where every outermost ``\boxed{...}`` begins and ends, and what it holds; "" for one that is never closed."""
    found: list[tuple[int, int, str]] = []
    box = BOX.search(text)
    while box:
        end = _closing(text, box.end())
        if end is None:
            found.append((box.start(), len(text), ""))
            break
        found.append((box.start(), end + 1, text[box.end() : end]))
        box = BOX.search(text, end + 1)
    return found


def _closing(text: str, start: int) -> int | None:
    """Where the brace that is open at ``start`` is closed."""
    depth = 1
    for brace in BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None


def plain(text: str) -> str:
    r"""\frac{1}{2} and ½ as 1/2, 3\times10^{2} as 3×10^2, \text{no} as {no}; arithmetic that is none, as `UNREAD`."""
    text = SYMBOLS.sub(_symbol, text.translate(CHARACTERS))
    if "\\" not in text and "{" not in text:
        return text
    text = COMMANDS.sub(_plainly, text)
    for _ in range(DEEPEST):
        text, opaque = OPAQUE.subn(UNREAD, text)
        if not opaque:
            break
    return text


def _symbol(symbol: re.Match[str]) -> str:
    if symbol["part"] is None:
        return UNREAD
    return _fraction(symbol["digit"], unicodedata.normalize("NFKC", symbol["part"]).replace("\u2044", "/"))


def _fraction(before: str, written: str) -> str:
    """A fraction as it stands behind a digit, in a mixed number, or behind what may be its sign."""
    return before + (" " if before.isdigit() else "") + written


def _plainly(command: re.Match[str]) -> str:
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
            return UNREAD
        case _:
            return command["escaped"] or ""
