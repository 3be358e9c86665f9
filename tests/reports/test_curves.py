import math
from typing import Any

import pytest
from shoot_out import journal

from tunesmith.reports.curves import BOTTOM, LEFT, RIGHT, SMOOTHED, TOP, Curve, curves


def by_title(**quantities: list[float | None]) -> dict[str, Curve]:
    """The curves of a journal with these values, by title."""
    count = max(len(values) for values in quantities.values())
    events: list[dict[str, Any]] = [
        {"event": "step", "step": step + 1, **{name: values[step] for name, values in quantities.items()}}
        for step in range(count)
    ]
    return {curve.title: curve for curve in curves(events)}


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("sft-lora", ["loss"]),
        ("dpo", ["loss", "pairs ranked right", "margin, chosen − rejected"]),
        (
            "rlhf",
            [
                "loss",
                "reward",
                "score by the verifier",
                "KL from the reference policy",
                "completion length, tokens",
                "groups of equal rewards",
            ],
        ),
    ],
)
def test_every_objective_shows_the_quantities_that_it_logs(name: str, titles: list[str]) -> None:
    assert [curve.title for curve in curves(journal(name))] == titles


def test_a_score_that_is_the_reward_is_drawn_once() -> None:
    assert "score by the verifier" not in {curve.title for curve in curves(journal("grpo"))}


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_line_breaks_where_a_value_is_missing(missing: float | None) -> None:
    curve = by_title(loss=[3.0, 2.0, missing, 1.0])["loss"]
    assert [len(line) for line in curve.lines] == [2, 1]


def test_a_quantity_that_was_never_finite_has_no_axis() -> None:
    curve = by_title(loss=[None, None])["loss"]
    assert (curve.lines, curve.steps, curve.y) == ([], 2, None)


def test_one_step_is_one_point_inside_the_chart() -> None:
    (line,) = by_title(loss=[0.7])["loss"].lines
    ((x, y),) = line
    assert LEFT <= x <= RIGHT
    assert TOP <= y <= BOTTOM


def test_the_last_value_of_a_repeated_step_counts() -> None:
    (curve,) = curves([{"event": "step", "step": 1, "loss": 9.0}, {"event": "step", "step": 1, "loss": 1.0}])
    assert curve.y is not None
    assert [len(line) for line in curve.lines] == [1]
    assert curve.y.high == 1


def test_many_steps_get_a_running_mean_that_keeps_gaps() -> None:
    few = by_title(loss=[1.0, 3.0] * (SMOOTHED // 2 - 1))["loss"]
    many = by_title(loss=[1.0, 3.0] * 20 + [None] + [1.0, 3.0] * 20)["loss"]
    assert few.mean == []
    assert [len(line) for line in many.mean] == [40, 40]
    middle = [y for _, y in many.mean[0][5:35]]
    assert max(middle) - min(middle) < 0.5 * (BOTTOM - TOP)


def test_a_journal_without_steps_has_no_curves() -> None:
    assert curves([{"event": "start", "key": "k"}]) == []
