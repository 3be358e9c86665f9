"""Numbers as people read them, and the outcome of a comparison in a sentence."""

from typing import Any


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def size(count: float | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def headline(name: str, comparison: dict[str, Any]) -> str:
    """Who is better, by how much, and how sure that is."""
    result, baseline = comparison["against_baseline"][name], comparison["baseline"]
    before, after = (comparison["models"][model]["score"] for model in (baseline, name))
    interval = f"{100 * result['low']:+.1f} to {100 * result['high']:+.1f} points"
    sure = f"{100 * comparison['confidence']:g}% interval of the paired difference: {interval}"
    match result["verdict"]:
        case "undecided":
            opening = f"{name} cannot be told from {baseline}"
        case outcome:
            opening = f"{name} is {outcome} than {baseline}"
    return f"{opening}: {percent(before)} → {percent(after)} right on {result['prompts']} prompts ({sure})."
