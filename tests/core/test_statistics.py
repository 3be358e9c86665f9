from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core import statistics
from tunesmith.core.errors import EvaluationError

HOW = {"confidence": 0.95, "resamples": 2000, "seed": 0}
P_VALUES = st.lists(st.floats(0, 1), max_size=6)


def test_the_wilson_interval_of_a_known_case() -> None:
    interval = statistics.mean_interval([1.0] * 15 + [0.0] * 5, **HOW)
    assert (interval.low, interval.high) == pytest.approx((0.5313, 0.8881), abs=1e-4)


def test_the_interval_of_all_wrong_answers_is_wider_than_zero() -> None:
    interval = statistics.mean_interval([0.0] * 20, **HOW)
    assert interval.low == 0
    assert interval.high > 0.1


def test_partial_scores_are_bootstrapped() -> None:
    interval = statistics.mean_interval([0.2, 0.5, 0.9] * 20, **HOW)
    assert 0.4 < interval.low < 0.533 < interval.high < 0.7


def test_mcnemar_is_exact_over_the_discordant_pairs() -> None:
    before, after = [0.0] * 6 + [1.0] * 4, [1.0] * 6 + [1.0] * 4
    assert statistics.paired(before, after, **HOW).p_value == pytest.approx(2 * 0.5**6)


def test_a_paired_difference_is_significant_where_two_intervals_overlap() -> None:
    before = [1.0, 0.0] * 100
    after = [1.0, 0.0] * 90 + [1.0, 1.0] * 10
    result = statistics.paired(before, after, **HOW)
    assert result.difference == pytest.approx(0.05)
    assert result.interval.low > 0
    first, second = statistics.mean_interval(before, **HOW), statistics.mean_interval(after, **HOW)
    assert first.high > second.low


def test_equal_scores_have_a_difference_of_zero() -> None:
    result = statistics.paired([1.0, 0.0], [1.0, 0.0], **HOW)
    assert (result.difference, result.interval.low, result.interval.high, result.p_value) == (0, 0, 0, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    first = statistics.paired([0.0] * 50, [0.0, 1.0] * 25, **HOW)
    assert first == statistics.paired([0.0] * 50, [0.0, 1.0] * 25, **HOW)


def test_scores_of_different_or_no_length_are_refused() -> None:
    with pytest.raises(EvaluationError):
        statistics.paired([1.0], [1.0, 0.0], **HOW)
    with pytest.raises(EvaluationError):
        statistics.mean_interval([], **HOW)
    with pytest.raises(EvaluationError, match="no interval"):
        statistics.paired([1.0], [0.0], **HOW)


def test_holm_of_a_known_case() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]) == []


@given(P_VALUES)
def test_holm_is_bonferroni_over_every_set_that_a_claim_is_in(p_values: list[float]) -> None:
    places = range(len(p_values))
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(places, size)]
    bonferroni = {chosen: min(1, len(chosen) * min(p_values[place] for place in chosen)) for chosen in sets}
    closed = [max(bonferroni[chosen] for chosen in sets if place in chosen) for place in places]
    assert statistics.holm(p_values) == pytest.approx(closed)


@given(P_VALUES)
def test_holm_keeps_the_order_and_lowers_nothing(p_values: list[float]) -> None:
    adjusted = statistics.holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    ranked = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[place] for place in ranked] == sorted(adjusted)


def test_the_noise_floor_is_the_difference_of_a_model_to_itself() -> None:
    noise = statistics.noise([1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0])
    assert (noise.floor, noise.flipped) == (0.25, 0.75)
    assert statistics.noise([1.0, 0.0], [1.0, 0.0]) == statistics.Noise(0, 0)
