"""Numbers as people read them, and texts of others as a terminal may show them."""

import unicodedata

NONE = "–"
"""The mark for an unknown number."""


def percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}%"


def points(share: float | None) -> str:
    """A difference of two shares in percentage points."""
    return NONE if share is None else f"{100 * share:+.1f}".replace("-", "−")


def score(value: float | None, share: bool = True) -> str:
    """A score; one that is no share is in the unit of its metric."""
    if share or value is None:
        return percent(value)
    return (f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}").replace("-", "−")


def change(difference: float | None, share: bool = True) -> str:
    """A difference of two scores: in percentage points, or in the unit of their metric."""
    if share or difference is None:
        return points(difference)
    return f"{difference:+.3g}".replace("-", "−")


def interval(low: float, high: float, share: bool = True) -> str:
    """The ends of a score's interval; the percent sign is left to the score before it."""
    return f"{100 * low:.1f}, {100 * high:.1f}" if share else f"{score(low, share)}, {score(high, share)}"


def count(number: float | None) -> str:
    return NONE if number is None else f"{number:,.0f}"


def ratio(measured: float | None, predicted: float | None) -> str:
    return f"{measured / predicted:.2f}×" if measured and predicted else NONE


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def size(count: float | None) -> str:
    """A number of bytes in decimal units."""
    if count is None:
        return NONE
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def printable(text: str, *, lines: bool = False) -> str:
    """A text without characters that could control a terminal; ``lines`` keeps newlines and tabs."""
    if text.isprintable():  # most texts are, and the characters of a long history take a second one by one
        return text
    kept = "\n\t" if lines else ""
    return "".join(character if character in kept or not _controls(character) else "\ufffd" for character in text)


def _controls(character: str) -> bool:
    """Whether it is a control, a change of direction, a half of a surrogate pair, or a separator of lines."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
