"""The outcome of a comparison in sentences."""

from tunesmith.core import formatting
from tunesmith.evaluation.documents import Comparison


def headline(name: str, comparison: Comparison) -> str:
    """How a model compares with the base: the verdict, the change of its score, and the interval of the difference."""
    result, baseline = comparison["against_baseline"][name], comparison["baseline"]
    before, after = (comparison["models"][model]["score"] for model in (baseline, name))
    interval = f"{formatting.points(result['low'])} to {formatting.points(result['high'])} points"
    certainty = f"{100 * comparison['confidence']:g}% interval of the paired difference: {interval}"
    match result["verdict"]:
        case "undecided":
            opening = f"{name} cannot be told from {baseline}"
        case outcome:
            opening = f"{name} is {outcome} than {baseline}"
    change = f"{formatting.percent(before)} → {formatting.percent(after)}"
    return f"{opening}: {change} right on {result['prompts']} prompts ({certainty})."


def best(comparison: Comparison) -> str:
    """The model with the highest score, how it compares with the base, and the models that may be as good."""
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
