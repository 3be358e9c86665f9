from itertools import pairwise

import pytest

from tunesmith.reports import axes
from tunesmith.reports.axes import BYTES, NUMBER, SECONDS, SHARE, Axis, Unit


def labels(axis: Axis) -> list[str]:
    return [tick.label for tick in axis.ticks]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([0.21, 0.57], SHARE, ["0%", "20%", "40%", "60%"]),
        ([3.07, 0.19], NUMBER, ["0", "1", "2", "3", "4"]),
        ([-0.04, 0.03], NUMBER, ["−0.04", "−0.02", "0", "0.02", "0.04"]),
        ([100.2, 100.9], NUMBER, ["100.2", "100.4", "100.6", "100.8", "101"]),
        ([0.5], NUMBER, ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        ([1e30, 2e30], NUMBER, ["0", "5e+29", "1e+30", "1.5e+30", "2e+30"]),
    ],
)
def test_an_axis_ends_in_round_values(values: list[float], unit: Unit, expected: list[str]) -> None:
    axis = axes.linear(values, (100, 0), unit)
    assert labels(axis) == expected
    assert axis.low <= min(values)
    assert max(values) <= axis.high


@pytest.mark.parametrize("value", [0, -3.5, 1e-30, 7e11])
def test_one_value_alone_has_a_place_on_the_axis(value: float) -> None:
    assert 0 <= axes.linear([value], (0, 100), NUMBER).at(value) <= 100


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([99, 561], SECONDS, ["2m", "5m", "10m"]),
        ([40, 40_000], SECONDS, ["1m", "10m", "1h", "10h"]),
        ([19.6e6, 538e6], BYTES, ["20 MB", "50 MB", "100 MB", "200 MB", "500 MB"]),
    ],
)
def test_a_logarithmic_axis_has_round_labels(values: list[float], unit: Unit, expected: list[str]) -> None:
    assert labels(axes.logarithmic(values, (0, 1000), unit)) == expected


def test_labels_side_by_side_do_not_touch() -> None:
    ticks = axes.logarithmic([19.6e6, 538e6], (0, 240), BYTES).ticks
    assert len(ticks) > 2
    assert all(one.right < other.left for one, other in pairwise(ticks))


def test_a_logarithmic_axis_gives_equal_factors_equal_room() -> None:
    axis = axes.logarithmic([1, 100], (0, 100), NUMBER)
    assert axis.at(10) - axis.at(1) == pytest.approx(axis.at(100) - axis.at(10))
