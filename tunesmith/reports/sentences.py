"""The outcome of a comparison in sentences."""

from tunesmith.core import formatting
from tunesmith.evaluation.documents import Comparison, SuiteComparison, SuiteSettings, Sweeps
from tunesmith.evaluation.trainings import Selection

OVER = 1.1
"""The factor over its prediction from which a training's peak of memory is a warning."""


def ranking(comparison: Comparison) -> SuiteComparison:
    """The first suite, by which models are ranked."""
    return comparison["suites"][comparison["suite"]]


def measured(about: SuiteSettings) -> str:
    """What a suite's score is, in a word or two: accuracy, a metric of lm-eval, or the kind of the suite."""
    return about["metric"] or ("accuracy" if about["kind"] == "answers" else about["kind"])


def headline(name: str, comparison: Comparison) -> str:
    """How a model compares with the base: the verdict, the change of its score, and the interval of the difference."""
    result, baseline = comparison["against_baseline"][name], comparison["baseline"]
    before, after = (comparison["models"][model]["score"] for model in (baseline, name))
    about = ranking(comparison)
    share, what = about["share"], measured(about)
    low, high = (formatting.change(end, share) for end in (result["low"], result["high"]))
    interval = f"{low} to {high}{' points' if share else ''}"
    certainty = f"{100 * comparison['confidence']:g}% interval of the paired difference: {interval}"
    match result["verdict"]:
        case "undecided":
            opening = f"{name} cannot be told from {baseline}"
        case outcome:
            opening = f"{name} is {outcome} than {baseline}"
    change = f"{formatting.score(before, share)} → {formatting.score(after, share)}"
    return f"{opening}: {what} {change} on {result['prompts']} prompts ({certainty})."


def warnings(name: str, comparison: Comparison) -> list[str]:
    """What speaks against a model whatever it scores: its training's findings, and memory beyond the prediction."""
    model = comparison["models"][name]
    peak, predicted = model["training"]["peak_memory_bytes"], model["training"]["predicted_memory_bytes"]
    if not peak or not predicted or peak <= OVER * predicted:
        return model["warnings"]
    more = f"{formatting.ratio(peak, predicted)} of the predicted {formatting.size(predicted)}"
    return [
        *model["warnings"],
        f"its training used {formatting.size(peak)} of memory, {more}: a plan for it is too small",
    ]


def best(comparison: Comparison) -> str:
    """The model with the highest score, how it compares with the base, and the models that may be as good."""
    leader, baseline, others = comparison["best"], comparison["baseline"], comparison["against_best"]
    if len(others) == 1:
        (name,) = comparison["against_baseline"]
        return headline(name, comparison)
    if leader == baseline:
        about = ranking(comparison)
        score = f"{measured(about)} {formatting.score(comparison['models'][baseline]['score'], about['share'])}"
        opening = f"No model scores higher than {baseline}: {score} on {comparison['prompts']} prompts."
    else:
        opening = f"{leader} scores highest. {headline(leader, comparison)}"
    close = [name for name, result in others.items() if result["verdict"] == "undecided" and name != baseline]
    if close:
        return f"{opening} Not told apart from {leader} on these prompts: {', '.join(close)}."
    return f"{opening} It is better than every other model."


def tried(name: str, sweeps: Sweeps) -> str:
    """How many params were tried for a model, by what they were chosen, and what is corrected for it."""
    *before, _ = sweeps["met_test"] or [name]
    what = "lowest validation loss" if sweeps["by"] == "loss" else f"highest validation {sweeps['by']}"
    opening = f"{name}: its params were chosen of {sweeps['trials']} trials by the {what}"
    if not before:
        return f"{opening}; none of the others met these prompts, so nothing is corrected for them."
    many = "another candidate" if len(before) == 1 else f"{len(before)} others"
    return f"{opening}; {many} met these prompts before ({', '.join(before)}): p-values are times {len(before) + 1}."


def kept(choice: Selection) -> str:
    """The step whose weights a model has, and why."""
    step, steps, by = choice["kept"], choice["steps"], choice["by"]
    opening = f"kept: step {step} of {steps}, "
    if by is None:
        reason = "as params.yaml says (keep: last)" if choice["validation"] else "since there were no validation rows"
        return f"{opening}the last, {reason}"
    ends = [one for one in choice["validation"] if one["step"] in (0, step, steps)]
    values = {one["step"]: value for one in ends if (value := one[by]) is not None}
    shown = _told_apart(values)
    best = f"the {'lowest' if by == 'loss' else 'highest'} validation {by} ({shown[step]})"
    if step == steps:
        sentence = f"{opening}the last, with {best}"
    else:
        sentence = f"{opening}{best}; the last had {shown.get(steps, 'none that is finite')}"
    if 0 in values and (values[0] <= values[step] if by == "loss" else values[0] >= values[step]):
        sentence += f"; before the training it was {shown[0]}"
    return sentence


def _told_apart(values: dict[int, float]) -> dict[int, str]:
    """Numbers by step as text, with as many digits as tell those apart that differ, and two at least."""
    for digits in range(2, 18):
        shown = {step: f"{value:.{digits}g}".replace("-", "−") for step, value in values.items()}
        if len({*shown.values()}) == len({*values.values()}):
            break
    return shown
