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
            "kto",
            [
                "loss",
                "validation loss, nats a pair",
                "KL from the reference policy",
                "pairs ranked right",
                "margin, chosen − rejected",
            ],
        ),
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


@pytest.mark.parametrize(
    ("name", "together", "apart"),
    [
        ("sft-lora", {"loss"}, set()),
        ("dpo", {"loss", "pairs ranked right", "margin, chosen − rejected"}, set()),
        ("kto", {"margin, chosen − rejected"}, {"validation loss, nats a pair", "pairs ranked right"}),
        ("rlhf", {"score by the verifier"}, set()),
        ("grpo", {"reward"}, set()),
        ("sft-qlora", set(), set()),
    ],
)
def test_the_validation_split_is_drawn_in_the_chart_of_the_same_quantity(
    name: str, together: set[str], apart: set[str]
) -> None:
    drawn = {curve.title: curve for curve in curves(journal(name)) if curve.validation}
    assert {title for title, curve in drawn.items() if curve.lines} == together
    assert {title for title, curve in drawn.items() if not curve.lines} == apart
    for curve in drawn.values():
        (line,) = curve.validation
        assert [x for x, _ in line] == sorted(x for x, _ in line)
        assert line[0][0] == LEFT  # step 0
        assert all(TOP <= y <= BOTTOM for _, y in line)


@pytest.mark.parametrize(
    ("loss_type", "own"), [({"sigmoid": 1.0}, False), ({"hinge": 1.0}, True), ({"sigmoid": 1.0, "sft": 0.2}, True)]
)
def test_a_loss_of_dpo_that_is_no_surprise_at_labels_is_drawn_apart(loss_type: dict[str, float], own: bool) -> None:
    start, *events = journal("dpo")
    drawn = {
        curve.title: curve
        for curve in curves([start | {"params": {"dpo": {"dpo": {"loss_type": loss_type}}}}, *events])
    }
    assert ("validation loss, nats a pair" in drawn) is own
    assert bool(drawn["loss"].validation) is not own


def test_the_step_that_was_kept_is_marked_at_its_measurement() -> None:
    (curve,) = curves(journal("sft-lora"))
    (line,) = curve.validation
    lowest = max(line, key=lambda position: position[1])  # positions fall as values rise
    assert curve.kept == lowest[0] < RIGHT
    (curve,) = curves(journal("sft-lora")[:-1])  # of a training cut short
    assert curve.kept is None


def test_many_steps_get_a_running_mean_that_keeps_gaps() -> None:
    few = by_title(loss=[1.0, 3.0] * (SMOOTHED // 2 - 1))["loss"]
    many = by_title(loss=[1.0, 3.0] * 20 + [None] + [1.0, 3.0] * 20)["loss"]
    assert few.mean == []
    assert [len(line) for line in many.mean] == [40, 40]
    middle = [y for _, y in many.mean[0][5:35]]
    assert max(middle) - min(middle) < 0.5 * (BOTTOM - TOP)


def test_a_journal_without_steps_has_no_curves() -> None:
    assert curves([{"event": "start", "key": "k"}]) == []
