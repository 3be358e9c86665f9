"""Intervals and paired tests over scores of the same prompts; many tests at once; the noise between two evaluations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tunesmith.core.errors import EvaluationError


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """The comparison of two models on the same prompts.

    difference: mean of challenger - champion, with its bootstrap interval. p_value: exact McNemar where all scores are
    0 or 1 (two-sided binomial over the prompts on which the two differ); None otherwise.
    """

    difference: float
    interval: Interval
    p_value: float | None


@dataclass(frozen=True)
class Noise:
    """The difference between two evaluations of one model.

    floor: the absolute difference of their mean scores. flipped: the share of prompts whose score changed.
    """

    floor: float
    flipped: float


def mean_interval(scores: Sequence[float], *, confidence: float, resamples: int, seed: int) -> Interval:
    """Interval of a mean score: Wilson (1927) where all are 0 or 1, percentile bootstrap otherwise.

    Raises EvaluationError for no scores.
    """
    if not scores:
        raise EvaluationError(
            "no gradable sample to take a mean of", fix="read reports/evaluation/<model>/samples.jsonl"
        )
    if right_or_wrong(scores):
        ci = stats.binomtest(round(sum(scores)), len(scores)).proportion_ci(confidence, method="wilson")
        return Interval(float(ci.low), float(ci.high))
    return _bootstrap(scores, confidence, resamples, seed)


def paired(
    champion: Sequence[float], challenger: Sequence[float], *, confidence: float, resamples: int, seed: int
) -> Paired:
    """Compare two models on the same prompts, in the same order.

    The bootstrap resamples prompts, so a prompt's difficulty, which both answers share, cancels (Koehn 2004).
    Raises EvaluationError where the two differ in length, or are empty.
    """
    changes = differences(champion, challenger)
    p_value = None
    if right_or_wrong(champion) and right_or_wrong(challenger):
        won, lost = changes.count(1), changes.count(-1)
        p_value = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    interval = _bootstrap(changes, confidence, resamples, seed)
    return Paired(float(np.mean(changes)), interval, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, adjusted for testing all of them at once (Holm 1979).

    All those below 1 - confidence may be claimed together: the chance that any claim is false stays below it, however
    the tests depend on each other.
    """
    adjusted, reached = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = reached
    return adjusted


def noise(first: Sequence[float], again: Sequence[float]) -> Noise:
    """The noise between two evaluations of one model on the same prompts: run to run, or at another batch size.

    Raises EvaluationError where the two differ in length, or are empty.
    """
    changes = differences(first, again)
    return Noise(abs(float(np.mean(changes))), sum(change != 0 for change in changes) / len(changes))


def differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """after - before, prompt by prompt. Raises EvaluationError where the two differ in length, or are empty."""
    if len(before) != len(after) or not before:
        raise EvaluationError(
            f"{len(before)} scores cannot be paired with {len(after)}", fix="evaluate both on the same prompts"
        )
    return [late - early for early, late in zip(before, after, strict=True)]


def are_shares(scores: Iterable[float]) -> bool:
    """Whether all scores are from 0 to 1, so that they read as shares."""
    return all(0 <= score <= 1 for score in scores)


def right_or_wrong(scores: Sequence[float]) -> bool:
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
