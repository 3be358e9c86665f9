import math
from dataclasses import asdict

import pytest

from tunesmith.training import measurements
from tunesmith.training.measurements import Graded, Measurement, RightAnswers


def test_preference_counts_a_tie_half_and_has_an_interval() -> None:
    measured = measurements.preference([2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 3.0, 1.0])
    assert (measured.pairs, measured.accuracy, measured.margin) == (4, 0.625, 0.5)
    assert measured.low < measured.accuracy < measured.high
    assert measured.loss == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in (1, 0, -3, 4)) / 4)


def test_good_and_bad_answers_are_told_apart_by_all_their_pairs() -> None:
    measured = measurements.separation([3.0, 2.0, 0.0], [1.0, -1.0])
    assert (measured.pairs, measured.accuracy) == (6, pytest.approx(5 / 6))
    assert measured.low < measured.accuracy < measured.high
    assert measured.margin == pytest.approx(5 / 3)
    even = measurements.separation([0.0, 0.0], [0.0, 0.0])
    assert (even.accuracy, even.margin) == (0.5, 0)
    assert even.loss == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "measured",
    [measurements.preference([2.0, 1.0], [1.0, 3.0], surprise=0.5), RightAnswers([True], 0.3), Graded(0.5)],
)
def test_a_measurement_is_loaded_from_its_fields(measured: Measurement) -> None:
    assert measurements.load(asdict(measured)) == measured
