"""Intervals and paired tests over scores of the same prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tunesmith.errors import EvaluationError


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """difference: mean of challenger - champion, with its bootstrap interval.

    p_value: exact McNemar where all scores are 0 or 1 (two-sided binomial over the prompts on which the two differ);
    None otherwise.
    """

    difference: float
    interval: Interval
    p_value: float | None


def mean_interval(scores: Sequence[float], *, confidence: float, resamples: int, seed: int) -> Interval:
    """Interval of a mean score: Wilson (1927) where all are 0 or 1, percentile bootstrap otherwise.

    Raises EvaluationError for no scores.
    """
    if not scores:
        raise EvaluationError("no gradable sample to take a mean of", fix="read reports/<model>/samples.jsonl")
    if _right_or_wrong(scores):
        ci = stats.binomtest(round(sum(scores)), len(scores)).proportion_ci(confidence, method="wilson")
        return Interval(float(ci.low), float(ci.high))
    return _bootstrap(scores, confidence, resamples, seed)


def paired(
    champion: Sequence[float], challenger: Sequence[float], *, confidence: float, resamples: int, seed: int
) -> Paired:
    """Compare two models on the same prompts, in the same order.

    The bootstrap resamples prompts, so what is shared by both answers to a prompt cancels (Koehn 2004).
    Raises EvaluationError where the two are not of one length, or empty.
    """
    if len(champion) != len(challenger) or not champion:
        raise EvaluationError(
            f"{len(champion)} scores cannot be paired with {len(challenger)}", fix="evaluate both on the same prompts"
        )
    differences = [after - before for before, after in zip(champion, challenger, strict=True)]
    p_value = None
    if _right_or_wrong(champion) and _right_or_wrong(challenger):
        won, lost = differences.count(1), differences.count(-1)
        p_value = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    interval = _bootstrap(differences, confidence, resamples, seed)
    return Paired(float(np.mean(differences)), interval, p_value)


def _right_or_wrong(scores: Sequence[float]) -> bool:
    return all(score in (0, 1) for score in scores)


def _bootstrap(values: Sequence[float], confidence: float, resamples: int, seed: int) -> Interval:
    if len(values) < 2:
        raise EvaluationError(
            "one graded prompt gives no interval", fix="give the test split more rows (100 or more tell models apart)"
        )
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))
