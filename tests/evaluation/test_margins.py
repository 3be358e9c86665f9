import doctest
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
    test = margins.difference_test(*pairs(won, lost, prompts), 0, **HOW | {"confidence": confidence})
    assert (test.interval.low, test.interval.high) == pytest.approx((low, high), abs=5e-4)


def test_the_example_of_the_docstring_holds() -> None:
    assert doctest.testmod(margins).attempted > 0
    assert doctest.testmod(margins).failed == 0


def test_at_a_margin_of_0_it_is_mcnemars_exact_test() -> None:
    before, after = pairs(9, 2, 60)
    test = margins.difference_test(before, after, 0, **HOW)
    assert 2 * test.p_above == pytest.approx(statistics.paired(before, after, **HOW).p_value)
    assert test.p_above == pytest.approx(stats.binom.sf(8, 11, 0.5))


@pytest.mark.parametrize(("won", "lost", "prompts"), [(9, 2, 60), (0, 0, 30), (30, 0, 30), (0, 30, 30), (3, 40, 128)])
def test_a_margin_at_an_end_of_the_interval_is_just_not_excluded(won: int, lost: int, prompts: int) -> None:
    before, after = pairs(won, lost, prompts)
    interval = margins.difference_test(before, after, 0, **HOW).interval
    if interval.low > -1:
        assert margins.difference_test(before, after, interval.low, **HOW).p_above == pytest.approx(0.025)
    if interval.high < 1:
        assert margins.difference_test(before, after, interval.high, **HOW).p_below == pytest.approx(0.025)
    assert -1 <= interval.low <= (won - lost) / prompts <= interval.high <= 1


def test_no_loss_on_few_prompts_does_not_prove_that_there_is_none() -> None:
    """Right-or-wrong and other scores agree on the rule of three: after n prompts without a loss, 3 / n may be lost."""
    for same in ([1.0] * 60, [0.5] * 60):
        test = margins.difference_test(same, same, -0.03, **HOW)
        assert test.p_above > 0.05
        assert test.interval.low == pytest.approx(-0.06, abs=0.006)


@pytest.mark.parametrize("scale", [10.0, -3.0])
def test_scores_in_another_unit_are_tested_as_shares_are(scale: float) -> None:
    """A unit that is `scale` times as small changes nothing, where the observed range is that of a share."""
    rng = np.random.default_rng(1)
    before, after = ([0.0, 1.0, *rng.random(30)] for _ in range(2))
    share = margins.difference_test(before, after, -0.05, **HOW)
    scaled = margins.difference_test(
        [scale * score for score in before], [scale * score for score in after], -0.05 * scale, **HOW
    )
    p_values = (scaled.p_above, scaled.p_below) if scale > 0 else (scaled.p_below, scaled.p_above)
    assert p_values == (share.p_above, share.p_below)


def errors_at(margin: float, differing: float, prompts: int) -> tuple[float, float]:
    """The exact probabilities that a model at the margin is found above it, and below it."""
    above = below = 0.0
    for won in range(prompts + 1):
        for lost in range(prompts + 1 - won):
            distance = (won - lost) / prompts - margin
            score = distance * math.sqrt(prompts) / margins._null_deviation(won, lost, prompts, margin)
            probability = math.exp(
                math.lgamma(prompts + 1)
                - math.lgamma(won + 1)
                - math.lgamma(lost + 1)
                - math.lgamma(prompts - won - lost + 1)
                + won * math.log((differing + margin) / 2)
                + lost * math.log((differing - margin) / 2)
                + (prompts - won - lost) * math.log(1 - differing)
            )
            above, below = above + probability * (score > 1.96), below + probability * (score < -1.96)
    return above, below


@pytest.mark.parametrize("margin", [-0.1, -0.03, 0.02])
@pytest.mark.parametrize("differing", [0.12, 0.3, 0.6])
@pytest.mark.parametrize("prompts", [10, 30, 60])
def test_errors_at_a_margin_are_rare_even_on_few_prompts(margin: float, differing: float, prompts: int) -> None:
    assert max(errors_at(margin, differing, prompts)) < 0.04


def right_or_wrong(draw: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    skill = draw.random(prompts)
    return (draw.random(prompts) < skill) * 1.0, (draw.random(prompts) < skill) * 1.0


def parts(draw: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in thirds, as of instructions that are followed in part."""
    skill = draw.beta(2, 2, prompts)
    return draw.binomial(3, skill) / 3, draw.binomial(3, skill) / 3


def rare_loss(draw: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """A small gain on nearly every prompt, a total loss on one in 33: equal means, though most samples hide it."""
    return np.full(prompts, 0.97), np.where(draw.random(prompts) < 0.03, 0.0, 1.0)


@pytest.mark.parametrize("kind", [right_or_wrong, parts, rare_loss])
@pytest.mark.parametrize("prompts", [30, 128, 541])
def test_equal_models_are_seldom_found_different_and_intervals_cover(
    kind: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]], prompts: int
) -> None:
    draw, times = np.random.default_rng(prompts), 500
    better = worse = covered = 0
    for seed in range(times):
        before, after = kind(draw, prompts)
        test = margins.difference_test(before.tolist(), after.tolist(), 0, **HOW | {"resamples": 400, "seed": seed})
        better += test.p_above < 0.025
        worse += test.p_below < 0.025
        covered += test.interval.low <= 0 <= test.interval.high
    assert max(better, worse) <= 0.05 * times
    assert covered >= 0.93 * times


def test_a_difference_is_found_on_enough_prompts() -> None:
    draw = np.random.default_rng(0)
    better = 0
    for seed in range(100):
        before, after = parts(draw, 541)
        test = margins.difference_test(before.tolist(), (0.8 * after + 0.2).tolist(), 0.02, **HOW | {"seed": seed})
        better += test.p_above < 0.025
    assert better > 90


@given(SCORES, st.sampled_from([0, 0.1, -0.2]))
def test_swapping_the_models_swaps_the_sides(scores: list[tuple[float, float]], margin: float) -> None:
    before, after = [score for score, _ in scores], [score for _, score in scores]
    there = margins.difference_test(before, after, margin, **HOW)
    back = margins.difference_test(after, before, -margin, **HOW)
    assert (there.p_above, there.p_below) == pytest.approx((back.p_below, back.p_above))
    assert there.interval.low == pytest.approx(-back.interval.high)


@given(SCORES)
def test_the_interval_contains_the_estimate_and_both_sides_are_never_proven(scores: list[tuple[float, float]]) -> None:
    before, after = [score for score, _ in scores], [score for _, score in scores]
    test = margins.difference_test(before, after, 0.05, **HOW)
    assert test.interval.low <= test.estimate <= test.interval.high
    assert test.p_above + test.p_below >= 1


def test_a_ratio_is_tested_against_its_limit() -> None:
    draw = np.random.default_rng(0)
    before = draw.integers(5, 40, 100).tolist()
    longer = [3 * tokens for tokens in before]
    test = margins.ratio_test(before, longer, 1.5, **HOW)
    assert test.estimate == pytest.approx(3)
    assert 1.5 < test.interval.low < 3 < test.interval.high
    assert test.p_above < 0.01
    assert margins.ratio_test(before, before, 1.5, **HOW).p_below < 0.01
    assert margins.ratio_test(before[:3], before[:3], 1.5, **HOW).p_below > 0.025


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(EvaluationError, match="every amount before is 0"):
        margins.ratio_test([0, 0], [1, 2], 1.5, **HOW)


@pytest.mark.parametrize(("won", "lost", "margin"), [(14, 10, 0), (10, 8, -0.03), (0, 0, -0.03), (9, 6, 0.1)])
def test_the_required_number_of_prompts_decides_at_the_same_rates(won: int, lost: int, margin: float) -> None:
    """A sample of 60 prompts does not decide; the same rates on the required number do."""
    test = margins.difference_test(*pairs(won, lost, 60), margin, **HOW)
    assert min(test.p_above, test.p_below) > 0.025
    needed = margins.required_prompts(test, confidence=0.95, power=0.8)
    assert needed is not None
    times = math.ceil(needed / 60)
    more = margins.difference_test(*pairs(won * times, lost * times, 60 * times), margin, **HOW)
    assert min(more.p_above, more.p_below) < 0.025


def test_required_prompts_decide_with_the_stated_power() -> None:
    test = margins.difference_test(*pairs(14, 8, 60), 0, **HOW)
    needed = margins.required_prompts(test, confidence=0.95, power=0.8)
    assert needed is not None
    draw = np.random.default_rng(0)
    drawn = draw.multinomial(needed, [14 / 60, 8 / 60, 38 / 60], 2000)
    decided = [stats.binom.sf(won - 1, won + lost, 0.5) < 0.025 for won, lost, _ in drawn]
    assert 0.72 < np.mean(decided) < 0.88


def test_no_number_of_prompts_decides_at_the_margin() -> None:
    at = margins.difference_test(*pairs(6, 3, 60), 0.05, **HOW)
    assert margins.required_prompts(at, confidence=0.95, power=0.8) is None
    near = margins.difference_test(*pairs(8, 7, 1000), 0.0, **HOW)
    assert margins.required_prompts(near, confidence=0.95, power=0.8) is None
