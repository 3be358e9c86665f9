"""The outcome of a comparison in sentences."""

from typing import Any

from tunesmith.core import formatting


def headline(name: str, comparison: dict[str, Any]) -> str:
    """Who is better, by how much, and how sure that is."""
    result, baseline = comparison["against_baseline"][name], comparison["baseline"]
    before, after = (comparison["models"][model]["score"] for model in (baseline, name))
    interval = f"{formatting.points(result['low'])} to {formatting.points(result['high'])} points"
    sure = f"{100 * comparison['confidence']:g}% interval of the paired difference: {interval}"
    match result["verdict"]:
        case "undecided":
            opening = f"{name} cannot be told from {baseline}"
        case outcome:
            opening = f"{name} is {outcome} than {baseline}"
    change = f"{formatting.percent(before)} → {formatting.percent(after)}"
    return f"{opening}: {change} right on {result['prompts']} prompts ({sure})."


def best(comparison: dict[str, Any]) -> str:
    """Which model is ahead, what that is worth against the base, and which others may be as good."""
    leader, baseline, others = comparison["best"], comparison["baseline"], comparison["against_best"]
    if len(others) == 1:
        (name,) = comparison["against_baseline"]
        return headline(name, comparison)
    if leader == baseline:
        score = formatting.percent(comparison["models"][baseline]["score"])
        opening = f"No model scores higher than {baseline}: {score} right on {comparison['prompts']} prompts."
    else:
        opening = f"{leader} scores highest. {headline(leader, comparison)}"
    close = [name for name, result in others.items() if result["verdict"] == "undecided" and name != baseline]
    if close:
        return f"{opening} Not told apart from {leader} on these prompts: {', '.join(close)}."
    return f"{opening} It is better than every other model."
