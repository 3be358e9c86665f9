import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunesmith.core import statistics
from tunesmith.core.errors import EvaluationError
from tunesmith.evaluation import margins

HOW = {"confidence": 0.95, "resamples": 1000, "seed": 0}
SCORES = st.lists(st.tuples(st.sampled_from([0, 0.25, 1]), st.sampled_from([0, 0.5, 1])), min_size=2, max_size=40)
PUBLISHED = [
    # won, lost, prompts, confidence, low, high
    (1, 7, 21, 0.95, -0.517, -0.026),  # Fagerland, Lydersen and Laake 2014, table 5: Tango
    (28, 25, 618, 0.90, -0.0148, 0.0247),  # scoreci.mp of R's PropCIs
]


def pairs(won: int, lost: int, prompts: int) -> tuple[list[float], list[float]]:
    same = prompts - won - lost
    return [0.0] * won + [1.0] * lost + [1.0] * same, [1.0] * won + [0.0] * lost + [1.0] * same


@pytest.mark.parametrize(("won", "lost", "prompts", "confidence", "low", "high"), PUBLISHED)
def test_the_interval_of_published_cases(
    won: int, lost: int, prompts: int, confidence: float, low: float, high: float
) -> None:
    tested = margins.against_margin(*pairs(won, lost, prompts), 0, **HOW | {"confidence": confidence})
    assert (tested.interval.low, tested.interval.high) == pytest.approx((low, high), abs=5e-4)


def test_at_no_margin_it_is_mcnemars_exact_test() -> None:
    before, after = pairs(9, 2, 60)
    tested = margins.against_margin(before, after, 0, **HOW)
    assert 2 * tested.p_above == pytest.approx(statistics.paired(before, after, **HOW).p_value)
    assert tested.p_above == pytest.approx(stats.binom.sf(8, 11, 0.5))


@pytest.mark.parametrize(("won", "lost", "prompts"), [(9, 2, 60), (0, 0, 30), (30, 0, 30), (0, 30, 30), (3, 40, 128)])
def test_a_margin_at_an_end_of_the_interval_is_just_not_excluded(won: int, lost: int, prompts: int) -> None:
    before, after = pairs(won, lost, prompts)
    interval = margins.against_margin(before, after, 0, **HOW).interval
    if interval.low > -1:
        assert margins.against_margin(before, after, interval.low, **HOW).p_above == pytest.approx(0.025)
    if interval.high < 1:
        assert margins.against_margin(before, after, interval.high, **HOW).p_below == pytest.approx(0.025)
    assert -1 <= interval.low <= (won - lost) / prompts <= interval.high <= 1


def test_no_loss_in_few_prompts_is_not_proof_of_none() -> None:
    """Right-or-wrong scores and others agree: about 3 in as many prompts may yet be lost (the rule of three)."""
    for same in ([1.0] * 60, [0.5] * 60):
        tested = margins.against_margin(same, same, -0.03, **HOW)
        assert tested.p_above > 0.05
        assert tested.interval.low == pytest.approx(-0.06, abs=0.006)


def errors_at(margin: float, differing: float, prompts: int) -> tuple[float, float]:
    """Exactly how often a model at the margin is found above it, and below."""
    above = below = 0.0
    for won in range(prompts + 1):
        for lost in range(prompts + 1 - won):
            distance = (won - lost) / prompts - margin
            score = distance * math.sqrt(prompts) / margins._deviation(won, lost, prompts, margin)
            chance = math.exp(
                math.lgamma(prompts + 1)
                - math.lgamma(won + 1)
                - math.lgamma(lost + 1)
                - math.lgamma(prompts - won - lost + 1)
                + won * math.log((differing + margin) / 2)
                + lost * math.log((differing - margin) / 2)
                + (prompts - won - lost) * math.log(1 - differing)
            )
            above, below = above + chance * (score > 1.96), below + chance * (score < -1.96)
    return above, below


@pytest.mark.parametrize("margin", [-0.1, -0.03, 0.02])
@pytest.mark.parametrize("differing", [0.12, 0.3, 0.6])
@pytest.mark.parametrize("prompts", [10, 30, 60])
def test_errors_at_a_margin_are_rare_on_few_prompts_too(margin: float, differing: float, prompts: int) -> None:
    assert max(errors_at(margin, differing, prompts)) < 0.04


def right_or_wrong(draw: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    skill = draw.random(prompts)
    return (draw.random(prompts) < skill) * 1.0, (draw.random(prompts) < skill) * 1.0


def parts(draw: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """As of instructions that are followed in part."""
    skill = draw.beta(2, 2, prompts)
    return draw.binomial(3, skill) / 3, draw.binomial(3, skill) / 3


def seldom(draw: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """A little more nearly always, all lost one time in 33: no difference in the mean, though most samples hide it."""
    return np.full(prompts, 0.97), np.where(draw.random(prompts) < 0.03, 0.0, 1.0)


@pytest.mark.parametrize("kind", [right_or_wrong, parts, seldom])
@pytest.mark.parametrize("prompts", [30, 128, 541])
def test_where_nothing_differs_few_are_found_better_or_worse_and_intervals_cover(
    kind: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]], prompts: int
) -> None:
    draw, times = np.random.default_rng(prompts), 500
    better = worse = covered = 0
    for seed in range(times):
        before, after = kind(draw, prompts)
        tested = margins.against_margin(before.tolist(), after.tolist(), 0, **HOW | {"resamples": 400, "seed": seed})
        better += tested.p_above < 0.025
        worse += tested.p_below < 0.025
        covered += tested.interval.low <= 0 <= tested.interval.high
    assert max(better, worse) <= 0.05 * times
    assert covered >= 0.93 * times


def test_a_difference_is_found_where_there_are_prompts_enough() -> None:
    draw = np.random.default_rng(0)
    found = 0
    for seed in range(100):
        before, after = parts(draw, 541)
        tested = margins.against_margin(before.tolist(), (0.8 * after + 0.2).tolist(), 0.02, **HOW | {"seed": seed})
        found += tested.p_above < 0.025
    assert found > 90


@given(SCORES, st.sampled_from([0, 0.1, -0.2]))
def test_two_models_that_change_places_change_sides(scores: list[tuple[float, float]], margin: float) -> None:
    before, after = [one for one, _ in scores], [one for _, one in scores]
    there = margins.against_margin(before, after, margin, **HOW)
    back = margins.against_margin(after, before, -margin, **HOW)
    assert (there.p_above, there.p_below) == pytest.approx((back.p_below, back.p_above))
    assert there.interval.low == pytest.approx(-back.interval.high)


@given(SCORES)
def test_the_interval_holds_the_estimate_and_both_sides_are_never_proven(scores: list[tuple[float, float]]) -> None:
    tested = margins.against_margin([one for one, _ in scores], [one for _, one in scores], 0.05, **HOW)
    assert tested.interval.low <= tested.estimate <= tested.interval.high
    assert tested.p_above + tested.p_below >= 1


def test_a_ratio_is_told_from_its_limit() -> None:
    draw = np.random.default_rng(0)
    before = draw.integers(5, 40, 100).tolist()
    longer = [3 * tokens for tokens in before]
    tested = margins.ratio_against(before, longer, 1.5, **HOW)
    assert tested.estimate == pytest.approx(3)
    assert 1.5 < tested.interval.low < 3 < tested.interval.high
    assert tested.p_above < 0.01
    assert margins.ratio_against(before, before, 1.5, **HOW).p_below < 0.01
    assert margins.ratio_against(before[:3], before[:3], 1.5, **HOW).p_below > 0.025


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(EvaluationError, match="every amount before is 0"):
        margins.ratio_against([0, 0], [1, 2], 1.5, **HOW)


@pytest.mark.parametrize(("won", "lost", "margin"), [(14, 10, 0), (10, 8, -0.03), (0, 0, -0.03), (9, 6, 0.1)])
def test_as_many_prompts_as_are_asked_for_decide(won: int, lost: int, margin: float) -> None:
    """Four times the evidence of one sample that did not decide, if so many were asked for: the same rates."""
    tested = margins.against_margin(*pairs(won, lost, 60), margin, **HOW)
    assert min(tested.p_above, tested.p_below) > 0.025
    needed = margins.required_prompts(tested, confidence=0.95, power=0.8)
    assert needed is not None
    times = math.ceil(needed / 60)
    more = margins.against_margin(*pairs(won * times, lost * times, 60 * times), margin, **HOW)
    assert min(more.p_above, more.p_below) < 0.025


def test_required_prompts_decide_with_that_power() -> None:
    tested = margins.against_margin(*pairs(14, 8, 60), 0, **HOW)
    needed = margins.required_prompts(tested, confidence=0.95, power=0.8)
    assert needed is not None
    draw = np.random.default_rng(0)
    drawn = draw.multinomial(needed, [14 / 60, 8 / 60, 38 / 60], 2000)
    found = [stats.binom.sf(won - 1, won + lost, 0.5) < 0.025 for won, lost, _ in drawn]
    assert 0.72 < np.mean(found) < 0.88


def test_no_number_of_prompts_decides_at_the_margin() -> None:
    at = margins.against_margin(*pairs(6, 3, 60), 0.05, **HOW)
    assert margins.required_prompts(at, confidence=0.95, power=0.8) is None
    near = margins.against_margin(*pairs(8, 7, 1000), 0.0, **HOW)
    assert margins.required_prompts(near, confidence=0.95, power=0.8) is None
