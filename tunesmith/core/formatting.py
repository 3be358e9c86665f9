"""Numbers as people read them."""

NONE = "–"
"""The mark for an unknown number."""


def percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}%"


def points(share: float | None) -> str:
    """A difference of two shares in percentage points."""
    return NONE if share is None else f"{100 * share:+.1f}".replace("-", "−")


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
