"""On which side of a margin a paired difference lies, how sure that is, and how many prompts would tell.

Superiority asks for a difference above +d, non-inferiority for one above -m: one question, another margin.

Right-or-wrong scores: the score test of a paired difference of proportions (Tango 1998), one-sided errors of which
stay below 4% where 2.5% is meant, from 10 prompts on (enumerated); at a margin of 0, McNemar's exact test.

Other scores: the Bayesian bootstrap over prompts (Rubin 1981) with one prompt more, that came out as badly as a score
can (Gaffke 2005; Learned-Miller and Thomas 2019). An ordinary bootstrap knows only what it saw: 30 equal answers
would prove that no answer is ever worse, and where one in 33 loses everything it errs in two of five samples of 30.
The unseen prompt ends that, at some power on few prompts; on right-or-wrong scores it would be Clopper and Pearson's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from tunesmith.core.errors import EvaluationError
from tunesmith.core.statistics import Interval, differences, right_or_wrong

MOST = 100_000
"""Prompts; that more would decide is of no use to anyone."""

Draws = NDArray[np.float64]


@dataclass(frozen=True)
class Tested:
    """estimate: what was seen on so many prompts, with its two-sided interval, in one unit with the margin.

    p_above: how probable an estimate so high would be, were the truth no higher than the margin; p_below: so low, no
    lower. Both one-sided: their doubles go with the interval. What follows says what more prompts would do: distance
    of the estimate from the margin (in the unit of a prompt's difference), standard deviation of a prompt's
    difference as seen and were the truth the margin, and unseen, the share of prompts of the opposite extreme that
    would move the mean to the margin.
    """

    prompts: int
    estimate: float
    interval: Interval
    p_above: float
    p_below: float
    distance: float
    deviation: float
    deviation_at_margin: float
    unseen: float


def against_margin(
    before: Sequence[float], after: Sequence[float], margin: float, *, confidence: float, resamples: int, seed: int
) -> Tested:
    """Test the mean of after - before, scores between 0 and 1 of the same prompts, against a margin from -1 to 1.

    Raises EvaluationError where the two are not of one length, or empty.
    """
    changes = differences(before, after)
    if right_or_wrong(before) and right_or_wrong(after):
        return _proportions(changes.count(1), changes.count(-1), len(changes), margin, confidence)
    values = np.asarray(changes)
    means, unseen = _bootstrap(values, resamples, seed)
    lows, highs = means - unseen, means + unseen
    estimate = float(values.mean())
    return Tested(
        len(values),
        estimate,
        _between(lows, highs, confidence),
        _share(lows <= margin),
        _share(highs >= margin),
        *_reach(values - margin, worst=-1 - margin, best=1 - margin),
    )


def ratio_against(
    before: Sequence[float], after: Sequence[float], limit: float, *, confidence: float, resamples: int, seed: int
) -> Tested:
    """Test mean after / mean before, amounts from 0 of the same prompts, against a limit above 0.

    The unseen prompt goes from nothing to the largest amount seen, or back; a larger one it cannot stand for. Raises
    EvaluationError where the two are not of one length or empty, or all was nothing before.
    """
    differences(before, after)
    if not sum(before):
        raise EvaluationError("a ratio to nothing: every amount before is 0", fix="leave the rule out")
    first, then = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    largest = float(max(first.max(), then.max()))
    means, unseen = _bootstrap(np.stack([first, then], axis=1), resamples, seed)
    lows = means[:, 1] / (means[:, 0] + unseen * largest)
    highs = (means[:, 1] + unseen * largest) / means[:, 0]
    return Tested(
        len(first),
        float(then.mean() / first.mean()),
        _between(lows, highs, confidence),
        _share(lows <= limit),
        _share(highs >= limit),
        *_reach(then - limit * first, worst=-limit * largest, best=largest),
    )


def required_prompts(tested: Tested, *, confidence: float, power: float) -> int | None:
    """How many prompts in all would tell the side, with that power, were the estimate the truth; None beyond MOST.

    Normal approximation, and at least so many that the unseen would be seen.
    """
    if not tested.distance:
        return None
    tail = (1 - confidence) / 2
    reach = stats.norm.isf(tail) * tested.deviation_at_margin + stats.norm.ppf(power) * tested.deviation
    needed = max((reach / tested.distance) ** 2, math.log(tail) / math.log1p(-tested.unseen))
    return math.ceil(needed) if needed <= MOST else None


def _proportions(won: int, lost: int, prompts: int, margin: float, confidence: float) -> Tested:
    estimate = (won - lost) / prompts

    def standard(difference: float) -> float:
        return (estimate - difference) * math.sqrt(prompts) / _deviation(won, lost, prompts, difference)

    if margin:
        above, below = stats.norm.sf(standard(margin)), stats.norm.cdf(standard(margin))
    else:
        above = stats.binom.sf(won - 1, won + lost, 0.5)
        below = stats.binom.cdf(won, won + lost, 0.5)
    sure, edge = stats.norm.ppf((1 + confidence) / 2), 1 - 1e-9
    low = optimize.brentq(lambda point: standard(point) - sure, -edge, estimate) if estimate > -edge else -1.0
    high = optimize.brentq(lambda point: standard(point) + sure, estimate, edge) if estimate < edge else 1.0
    seen = np.repeat([1.0, -1.0, 0.0], [won, lost, prompts - won - lost])
    distance, deviation, _, unseen = _reach(seen - margin, worst=-1 - margin, best=1 - margin)
    interval = Interval(float(low), float(high))
    return Tested(
        prompts,
        estimate,
        interval,
        float(above),
        float(below),
        distance,
        deviation,
        _deviation(won, lost, prompts, margin),
        unseen,
    )


def _deviation(won: int, lost: int, prompts: int, difference: float) -> float:
    """Of a prompt's difference, were that the mean: the constrained maximum likelihood (Tango 1998, section 3)."""
    middle = (2 * prompts - won + lost) * difference - won - lost
    last = -lost * difference * (1 - difference)
    losing = (math.sqrt(max(0.0, middle**2 - 8 * prompts * last)) - middle) / (4 * prompts)
    # Nothing differs and nothing should: any small number, as the estimate is the difference.
    return math.sqrt(max(2 * losing + difference * (1 - difference), 1e-12))


def _bootstrap(values: Draws, resamples: int, seed: int) -> tuple[Draws, Draws]:
    """Weighted sums over prompts, and the weight that one prompt more was given: uniform Dirichlet weights."""
    random = np.random.default_rng(seed)
    sums, rest = [], []
    for start in range(0, resamples, batch := max(1, 2_000_000 // len(values))):
        weights = random.standard_exponential((min(batch, resamples - start), len(values) + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        sums.append(weights[:, :-1] @ values)
        rest.append(weights[:, -1])
    return np.concatenate(sums), np.concatenate(rest)


def _between(lows: Draws, highs: Draws, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    return Interval(float(np.quantile(lows, tail)), float(np.quantile(highs, 1 - tail)))


def _share(against: NDArray[np.bool_]) -> float:
    """Of the resamples, the sample itself counted among them: never 0 (Davison and Hinkley 1997, eq. 4.11)."""
    return (1 + int(against.sum())) / (1 + len(against))


def _reach(beyond: Draws, *, worst: float, best: float) -> tuple[float, float, float, float]:
    """distance, deviation, deviation at the margin and unseen of `Tested`, of each prompt's distance to the margin."""
    distance, deviation = float(beyond.mean()), float(beyond.std())
    extreme = worst if distance > 0 else best
    return distance, deviation, deviation, distance / (distance - extreme) if distance else 0.0
