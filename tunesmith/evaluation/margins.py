"""Tests of a paired difference against a margin: which side it lies on, how sure that is, how many prompts decide.

Superiority asks for a difference above +d and non-inferiority for one above -m: one test, two margins.

Right-or-wrong scores: Tango's score test of a paired difference of proportions (Tango 1998). From 10 prompts on its
one-sided errors stay below 4% at a nominal 2.5% (enumerated). At a margin of 0: McNemar's exact test.

Other scores: the Bayesian bootstrap (Rubin 1981) with one extra pseudo-prompt at the worst possible score (Gaffke 2005;
Learned-Miller and Thomas 2019); for scores that are no shares, at the worst end of the observed range, 0 included.
Without it, 30 identical scores would "prove" that no prompt can ever be worse, and where one prompt in 33 loses
everything, two of five samples of 30 would err. With it the test stays conservative, at the price of power on few
prompts; on right-or-wrong scores it would be the Clopper-Pearson interval.

An example: of 100 prompts a tuned model gains 2 and loses 3, and may be at most 5 points worse. It is 1 point worse,
with a 95% interval from -6.8 to +4.4, which contains the margin: non-inferiority is not proven. At these rates it would
take about 322 prompts.

>>> before, after = [0.0] * 2 + [1.0] * 98, [1.0] * 2 + [0.0] * 3 + [1.0] * 95
>>> test = difference_test(before, after, -0.05, confidence=0.95, resamples=1000, seed=0)
>>> f"{test.estimate:+.3f} in [{test.interval.low:+.3f}, {test.interval.high:+.3f}], p = {test.p_above:.3f}"
'-0.010 in [-0.068, +0.044], p = 0.069'
>>> required_prompts(test, confidence=0.95, power=0.8)
322
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from tunesmith.core.errors import EvaluationError
from tunesmith.core.statistics import Interval, are_shares, differences, right_or_wrong

MAX_REQUIRED = 100_000
"""The largest number of prompts that is worth asking for."""

Draws = NDArray[np.float64]
"""One value for each resample, or for each prompt."""


@dataclass(frozen=True)
class Effect:
    """The distance and the spread that decide how many prompts a test needs, in units of one prompt's difference."""

    distance: float
    """The mean difference less the margin."""
    deviation: float
    """The standard deviation of a prompt's difference, as observed."""
    null_deviation: float
    """The standard deviation of a prompt's difference if the mean were the margin."""
    unseen: float
    """The share of prompts at the opposite extreme that would move the mean to the margin."""


@dataclass(frozen=True)
class MarginTest:
    """The outcome of a test. Both p-values are one-sided: doubled, they agree with the two-sided interval."""

    prompts: int
    """The number of pairs of scores."""
    estimate: float
    """The observed difference or ratio, in the unit of the margin."""
    interval: Interval
    """The two-sided interval of the estimate."""
    p_above: float
    """The probability of an estimate at least this high if the truth were at most the margin."""
    p_below: float
    """The probability of an estimate at least this low if the truth were at least the margin."""
    effect: Effect


def difference_test(
    before: Sequence[float], after: Sequence[float], margin: float, *, confidence: float, resamples: int, seed: int
) -> MarginTest:
    """Test the mean of after - before, scores of the same prompts, against a margin in their unit.

    Scores from 0 to 1 are shares, whose difference is at most 1; others may differ by more than was ever observed, and
    the pseudo-prompt cannot stand for that. Raises EvaluationError if the two differ in length or are empty.
    """
    changes = differences(before, after)
    if right_or_wrong(before) and right_or_wrong(after):
        return _tango(changes.count(1), changes.count(-1), len(changes), margin, confidence)
    values = np.asarray(changes)
    scores = [0.0, *before, *after]
    extent = 1.0 if are_shares(scores) else max(scores) - min(scores)
    means, extra = _bootstrap(values, resamples, seed)
    lows, highs = means - extent * extra, means + extent * extra
    return MarginTest(
        prompts=len(values),
        estimate=float(values.mean()),
        interval=_interval(lows, highs, confidence),
        p_above=_p_value(lows <= margin),
        p_below=_p_value(highs >= margin),
        effect=_effect(values - margin, worst=-extent - margin, best=extent - margin),
    )


def ratio_test(
    before: Sequence[float], after: Sequence[float], limit: float, *, confidence: float, resamples: int, seed: int
) -> MarginTest:
    """Test mean after / mean before, non-negative amounts on the same prompts, against a limit above 0.

    The pseudo-prompt goes from 0 to the largest observed amount, or back; it cannot stand for a larger amount. Raises
    EvaluationError if the two differ in length, are empty, or every amount before is 0.
    """
    differences(before, after)  # for its errors
    if not sum(before):
        raise EvaluationError("a ratio to nothing: every amount before is 0", fix="leave the rule out")
    first, then = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    largest = float(max(first.max(), then.max()))
    means, extra = _bootstrap(np.stack([first, then], axis=1), resamples, seed)
    lows = means[:, 1] / (means[:, 0] + extra * largest)
    highs = (means[:, 1] + extra * largest) / means[:, 0]
    return MarginTest(
        prompts=len(first),
        estimate=float(then.mean() / first.mean()),
        interval=_interval(lows, highs, confidence),
        p_above=_p_value(lows <= limit),
        p_below=_p_value(highs >= limit),
        effect=_effect(then - limit * first, worst=-limit * largest, best=largest),
    )


def required_prompts(test: MarginTest, *, confidence: float, power: float) -> int | None:
    """The number of prompts in all that would decide with this power if the estimate were the truth.

    The normal approximation, but at least as many as would show the unseen extreme. None above MAX_REQUIRED.
    """
    effect = test.effect
    if not effect.distance:
        return None
    tail = (1 - confidence) / 2
    reach = stats.norm.isf(tail) * effect.null_deviation + stats.norm.ppf(power) * effect.deviation
    required = max((reach / effect.distance) ** 2, math.log(tail) / math.log1p(-effect.unseen))
    return math.ceil(required) if required <= MAX_REQUIRED else None


def _tango(won: int, lost: int, prompts: int, margin: float, confidence: float) -> MarginTest:
    """Tango's score test, with the interval of all differences that it does not reject."""
    estimate = (won - lost) / prompts

    def z_score(difference: float) -> float:
        return (estimate - difference) * math.sqrt(prompts) / _null_deviation(won, lost, prompts, difference)

    if margin:
        p_above, p_below = stats.norm.sf(z_score(margin)), stats.norm.cdf(z_score(margin))
    else:
        p_above = stats.binom.sf(won - 1, won + lost, 0.5)
        p_below = stats.binom.cdf(won, won + lost, 0.5)
    z, edge = stats.norm.ppf((1 + confidence) / 2), 1 - 1e-9
    low = optimize.brentq(lambda point: z_score(point) - z, -edge, estimate) if estimate > -edge else -1.0
    high = optimize.brentq(lambda point: z_score(point) + z, estimate, edge) if estimate < edge else 1.0
    changes = np.repeat([1.0, -1.0, 0.0], [won, lost, prompts - won - lost])
    return MarginTest(
        prompts=prompts,
        estimate=estimate,
        interval=Interval(float(low), float(high)),
        p_above=float(p_above),
        p_below=float(p_below),
        effect=replace(
            _effect(changes - margin, worst=-1 - margin, best=1 - margin),
            null_deviation=_null_deviation(won, lost, prompts, margin),
        ),
    )


def _null_deviation(won: int, lost: int, prompts: int, difference: float) -> float:
    """Standard deviation of a prompt's difference under the null hypothesis that ``difference`` is their mean.

    From the constrained maximum likelihood (Tango 1998, section 3).
    """
    middle = (2 * prompts - won + lost) * difference - won - lost
    last = -lost * difference * (1 - difference)
    losing = (math.sqrt(max(0.0, middle**2 - 8 * prompts * last)) - middle) / (4 * prompts)
    # Where nothing differs and the null hypothesis says so, any small number: estimate and difference are equal.
    return math.sqrt(max(2 * losing + difference * (1 - difference), 1e-12))


def _bootstrap(values: Draws, resamples: int, seed: int) -> tuple[Draws, Draws]:
    """Sums over prompts with uniform Dirichlet weights, (resamples, ...), and the pseudo-prompt's weight in each."""
    random = np.random.default_rng(seed)
    sums, extra = [], []
    for start in range(0, resamples, batch := max(1, 2_000_000 // len(values))):
        weights = random.standard_exponential((min(batch, resamples - start), len(values) + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        sums.append(weights[:, :-1] @ values)
        extra.append(weights[:, -1])
    return np.concatenate(sums), np.concatenate(extra)


def _interval(lows: Draws, highs: Draws, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    return Interval(float(np.quantile(lows, tail)), float(np.quantile(highs, 1 - tail)))


def _p_value(across: NDArray[np.bool_]) -> float:
    """Share of resamples across the margin, the sample itself counted: never 0 (Davison and Hinkley 1997, eq. 4.11)."""
    return (1 + int(across.sum())) / (1 + len(across))


def _effect(beyond: Draws, *, worst: float, best: float) -> Effect:
    """The effect of each prompt's difference less the margin, and the two extremes that one could be."""
    distance, deviation = float(beyond.mean()), float(beyond.std())
    extreme = worst if distance > 0 else best
    unseen = distance / (distance - extreme) if distance else 0.0
    return Effect(distance=distance, deviation=deviation, null_deviation=deviation, unseen=unseen)
