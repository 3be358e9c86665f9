"""Numbers as people read them, and the outcome of a comparison in a sentence."""

from typing import Any

NONE = "–"
"""What is not known."""


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
    """Bytes in decimal units."""
    if count is None:
        return NONE
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def headline(name: str, comparison: dict[str, Any]) -> str:
    """Who is better, by how much, and how sure that is."""
    result, baseline = comparison["against_baseline"][name], comparison["baseline"]
    before, after = (comparison["models"][model]["score"] for model in (baseline, name))
    interval = f"{points(result['low'])} to {points(result['high'])} points"
    sure = f"{100 * comparison['confidence']:g}% interval of the paired difference: {interval}"
    match result["verdict"]:
        case "undecided":
            opening = f"{name} cannot be told from {baseline}"
        case outcome:
            opening = f"{name} is {outcome} than {baseline}"
    return f"{opening}: {percent(before)} → {percent(after)} right on {result['prompts']} prompts ({sure})."


def best(comparison: dict[str, Any]) -> str:
    """Which model is ahead, what that is worth against the base, and which others may be as good."""
    leader, baseline, others = comparison["best"], comparison["baseline"], comparison["against_best"]
    if len(others) == 1:
        (name,) = comparison["against_baseline"]
        return headline(name, comparison)
    if leader == baseline:
        score = percent(comparison["models"][baseline]["score"])
        opening = f"No model scores higher than {baseline}: {score} right on {comparison['prompts']} prompts."
    else:
        opening = f"{leader} scores highest. {headline(leader, comparison)}"
    close = [name for name, result in others.items() if result["verdict"] == "undecided" and name != baseline]
    if close:
        return f"{opening} Not told apart from {leader} on these prompts: {', '.join(close)}."
    return f"{opening} It is better than every other model."
