import pytest

from tunesmith import statistics
from tunesmith.errors import EvaluationError

HOW = {"confidence": 0.95, "resamples": 2000, "seed": 0}


def test_the_wilson_interval_of_a_known_case() -> None:
    interval = statistics.mean_interval([1.0] * 15 + [0.0] * 5, **HOW)
    assert (interval.low, interval.high) == pytest.approx((0.5313, 0.8881), abs=1e-4)


def test_all_wrong_is_not_certainly_zero() -> None:
    interval = statistics.mean_interval([0.0] * 20, **HOW)
    assert interval.low == 0
    assert interval.high > 0.1


def test_partial_scores_are_bootstrapped() -> None:
    interval = statistics.mean_interval([0.2, 0.5, 0.9] * 20, **HOW)
    assert 0.4 < interval.low < 0.533 < interval.high < 0.7


def test_mcnemar_is_exact_over_the_discordant_pairs() -> None:
    before, after = [0.0] * 6 + [1.0] * 4, [1.0] * 6 + [1.0] * 4
    assert statistics.paired(before, after, **HOW).p_value == pytest.approx(2 * 0.5**6)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    before = [1.0, 0.0] * 100
    after = [1.0, 0.0] * 90 + [1.0, 1.0] * 10
    result = statistics.paired(before, after, **HOW)
    assert result.difference == pytest.approx(0.05)
    assert result.interval.low > 0
    first, second = statistics.mean_interval(before, **HOW), statistics.mean_interval(after, **HOW)
    assert first.high > second.low


def test_equal_answers_differ_by_nothing() -> None:
    result = statistics.paired([1.0, 0.0], [1.0, 0.0], **HOW)
    assert (result.difference, result.interval.low, result.interval.high, result.p_value) == (0, 0, 0, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    first = statistics.paired([0.0] * 50, [0.0, 1.0] * 25, **HOW)
    assert first == statistics.paired([0.0] * 50, [0.0, 1.0] * 25, **HOW)


def test_unequal_or_no_scores_are_refused() -> None:
    with pytest.raises(EvaluationError):
        statistics.paired([1.0], [1.0, 0.0], **HOW)
    with pytest.raises(EvaluationError):
        statistics.mean_interval([], **HOW)
    with pytest.raises(EvaluationError, match="no interval"):
        statistics.paired([1.0], [0.0], **HOW)
