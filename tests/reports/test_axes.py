from itertools import combinations, pairwise

import pytest

from tunesmith.reports import axes
from tunesmith.reports.axes import BYTES, NUMBER, SECONDS, SHARE, Axis, Position, Unit, overlap, place_labels


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
        ([0, 0], SHARE, ["0%", "20%", "40%", "60%", "80%", "100%"]),
        ([1e30, 2e30], NUMBER, ["0", "5e+29", "1e+30", "1.5e+30", "2e+30"]),
    ],
)
def test_an_axis_ends_in_round_values(values: list[float], unit: Unit, expected: list[str]) -> None:
    axis = axes.linear(values, (100, 0), unit)
    assert labels(axis) == expected
    assert axis.low <= min(values)
    assert max(values) <= axis.high


@pytest.mark.parametrize("value", [0, -3.5, 1e-30, 7e11])
def test_a_single_value_lies_on_the_axis(value: float) -> None:
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
    assert all(left.right < right.left for left, right in pairwise(ticks))


def test_a_logarithmic_axis_gives_equal_factors_equal_room() -> None:
    axis = axes.logarithmic([1, 100], (0, 100), NUMBER)
    assert axis.at(10) - axis.at(1) == pytest.approx(axis.at(100) - axis.at(10))


NAMES = ["base", "sft-lora", "sft-qlora", "sft-full", "dpo", "rlhf", "grpo", "sft-lora-2"]
BOUNDS = (40, 0, 360, 260)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([(200, 130)] * 8, id="all in one place"),
        pytest.param([(300, 60 + 7 * number) for number in range(8)], id="one column"),
        pytest.param([(100 + 9 * number, 130) for number in range(8)], id="one row"),
        pytest.param([(345, 20), (345, 24), (50, 250)], id="in the corners"),
    ],
)
def test_labels_do_not_cover_each_other_and_stay_inside(points: list[Position]) -> None:
    labels = place_labels(dict(zip(NAMES, points, strict=False)), [], BOUNDS)
    assert [label.text for label in labels] == NAMES[: len(points)]
    for first, second in combinations(labels, 2):
        assert overlap(first.box, second.box) == 0, (first, second)
    for label in labels:
        assert overlap(label.box, BOUNDS) == pytest.approx(overlap(label.box, label.box))


def test_a_label_avoids_an_area_that_is_taken() -> None:
    (label,) = place_labels({"dpo": (200, 130)}, [(205, 120, 260, 140)], BOUNDS)
    assert label.anchor == "end"
