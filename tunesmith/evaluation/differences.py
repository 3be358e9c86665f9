"""The paired difference of two models that answered the same prompts, with its interval and its test. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

from pydantic import Field, NonNegativeInt

from tunesmith.core import statistics
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation import candidates as correction
from tunesmith.evaluation import margins
from tunesmith.evaluation.documents import AdjustedDifference, Difference, Direction

Samples: TypeAlias = Mapping[str, Sequence[Sample]]
"""A model's samples of each suite, by its name."""


class Compare(Section):
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of every interval."""
    resamples: Annotated[int, Field(ge=200)] = 10_000
    """Bootstrap resamples; with fewer than 200, an interval's ends are noise."""
    seed: NonNegativeInt = 0


def adjusted_differences(
    baseline: Samples, other: Samples, settings: Compare, candidates: int
) -> dict[str, AdjustedDifference]:
    """The difference of a model from another on every suite, by its name.

    P-values are adjusted for the number of suites (Holm 1979), and for that of the candidates, itself included, that
    met the test split.
    """
    results = {suite: difference(samples, other[suite], settings) for suite, samples in baseline.items()}
    by_suite = statistics.holm([result["p_value"] for result in results.values()])
    adjusted = [correction.adjusted(p_value, candidates) for p_value in by_suite]
    return {
        suite: {
            **result,
            "verdict": _direction(result["low"], result["high"], p_value, settings.confidence),
            "p_adjusted": p_value,
        }
        for (suite, result), p_value in zip(results.items(), adjusted, strict=True)
    }


def difference(baseline: Sequence[Sample], other: Sequence[Sample], settings: Compare) -> Difference:
    """The paired difference of two models' samples of a suite, over the prompts that are gradable in both.

    The p-value is McNemar's where all scores are 0 or 1, else that of the Bayesian bootstrap (see `margins`).
    """
    pairs = [
        (before, after)
        for before, after in zip(baseline, other, strict=True)
        if "not_gradable" not in (before["status"], after["status"])
    ]
    scores = [before["score"] for before, _ in pairs], [after["score"] for _, after in pairs]
    result = statistics.paired(*scores, **settings.model_dump())
    p_value = result.p_value
    if p_value is None:
        test = margins.difference_test(*scores, 0.0, **settings.model_dump())
        p_value = min(1.0, 2 * min(test.p_above, test.p_below))
    low, high = result.interval.low, result.interval.high
    return {
        "difference": result.difference,
        "low": low,
        "high": high,
        "p_value": p_value,
        "verdict": _direction(low, high, p_value, settings.confidence),
        "prompts": len(pairs),
        "improved": [before["row"]["id"] for before, after in pairs if after["score"] > before["score"]],
        "regressed": [before["row"]["id"] for before, after in pairs if after["score"] < before["score"]],
    }


def _direction(low: float, high: float, p_value: float, confidence: float) -> Direction:
    """The side of zero on which the whole interval of a difference lies.

    The p-value must agree: on few prompts, or few that differ, a bootstrap interval is too narrow; and with several
    suites, Holm's correction applies to the p-value alone.
    """
    if p_value >= 1 - confidence:
        return "undecided"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "undecided"
