import copy
import math
from typing import Any

import pytest
from reports.specs import drawn
from shoot_out import journal

from tunesmith.core.journal import Event
from tunesmith.reports.charts import Chart
from tunesmith.reports.curves import DRAWN, SMOOTHED, curves, running_mean, thinned


def events(**quantities: list[float | None]) -> list[Event]:
    """A journal with these values, a step each."""
    count = max(len(values) for values in quantities.values())
    return [
        {"event": "step", "step": step + 1, **{name: values[step] for name, values in quantities.items()}}  # type: ignore
        for step in range(count)
    ]


def by_title(trainings: dict[str, list[Event]]) -> dict[str, Chart]:
    return {chart.title: chart for chart in curves(trainings)}


def rows(chart: Chart, kind: str) -> list[dict[str, Any]]:
    data: Any = chart.spec["data"]
    return [row for row in data["values"] if row["kind"] == kind]


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("sft-lora", ["loss, SFT"]),
        ("dpo", ["loss, DPO", "accuracy: pairs ranked as marked", "margin, chosen − rejected"]),
        (
            "kto",
            [
                "loss, KTO",
                "validation loss, nats a pair",
                "KL from the reference policy, nats",
                "accuracy: pairs ranked as marked",
                "margin, chosen − rejected",
            ],
        ),
        (
            "rlhf",
            [
                "loss, RLHF",
                "reward, RLHF",
                "score by the verifier",
                "KL from the reference policy, nats",
                "completion length, tokens",
                "groups of equal rewards",
            ],
        ),
    ],
)
def test_every_objective_shows_the_quantities_that_it_logs(name: str, titles: list[str]) -> None:
    assert list(by_title({name: journal(name)})) == [*titles, "learning rate", "gradient norm"]


def test_trainings_share_the_chart_of_a_quantity_and_keep_their_colours() -> None:
    names = ["sft-lora", "sft-full", "dpo", "grpo"]
    charts = by_title({name: journal(name) for name in names})
    assert {row["model"] for row in rows(charts["gradient norm"], "training")} == {*names}
    assert {row["model"] for row in rows(charts["loss, SFT"], "training")} == {"sft-lora", "sft-full"}
    for chart in charts.values():
        color: Any = chart.spec["encoding"]
        assert color["color"]["scale"]["domain"] == names


def test_quantities_that_objectives_do_not_share_have_a_chart_for_each() -> None:
    other = copy.deepcopy(journal("dpo"))
    other[0] |= {"model": "ipo", "params": {"dpo": {"ipo": {"loss_type": "ipo"}}}}  # type: ignore
    charts = by_title({"dpo": journal("dpo"), "ipo": other, "rlhf": journal("rlhf"), "grpo": journal("grpo")})
    apart = [title for title in charts if title.startswith(("loss", "reward"))]
    assert apart == ["loss, DPO", "loss, DPO by ipo", "loss, RLHF", "loss, GRPO", "reward, RLHF", "reward, GRPO"]
    assert {row["model"] for row in rows(charts["margin, chosen − rejected"], "training")} == {"dpo", "ipo"}


def test_a_chart_can_be_drawn() -> None:
    for chart in curves({name: journal(name) for name in ("sft-lora", "rlhf")}):
        assert "step" in drawn(chart.spec)


def test_a_score_that_is_the_reward_is_drawn_once() -> None:
    assert "score by the verifier" not in by_title({"grpo": journal("grpo")})


def test_the_validation_split_is_drawn_beside_the_training_with_the_kept_step_marked() -> None:
    measured = rows(by_title({"sft-lora": journal("sft-lora")})["loss, SFT"], "validation")
    assert [row["step"] for row in measured] == [0, 12, 24, 36, 48, 60]
    assert [row["step"] for row in measured if row.get("kept")] == [36]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_line_breaks_where_a_value_is_missing(missing: float | None) -> None:
    chart = by_title({"a": events(loss=[3.0, 2.0, missing, 1.0])})["loss"]
    assert [row["value"] for row in rows(chart, "training")] == [3.0, 2.0, None, 1.0]
    assert drawn(chart.spec).count('aria-label="step: 3') == 0


def test_a_loss_that_was_never_finite_is_named() -> None:
    assert list(by_title({"lost": events(loss=[None, math.nan])})) == ["loss. lost: not finite at any of 2 steps"]


def test_many_steps_get_a_running_mean_that_keeps_gaps() -> None:
    few = by_title({"a": events(loss=[1.0, 3.0] * (SMOOTHED // 2 - 1))})["loss"]
    many = by_title({"a": events(loss=[1.0, 3.0] * 20 + [None] + [1.0, 3.0] * 20)})["loss"]
    assert rows(few, "single steps") == []
    assert len(rows(many, "single steps")) == 81
    smooth = [row["value"] for row in rows(many, "training")]
    assert smooth[40] is None
    assert max(smooth[5:35]) - min(smooth[5:35]) < 0.5


def test_long_trainings_are_drawn_by_means_of_neighbours() -> None:
    points = thinned([(step, float(step)) for step in range(1, 10_001)])
    assert len(points) == DRAWN
    assert points[0] == (25, 13.0)
    assert points[-1][0] == 10_000
    assert len(curves({"a": events(loss=[1.0] * 10_000)})[0].table) < 20


def test_a_mean_leaves_out_what_is_missing() -> None:
    assert running_mean([(1, None), (2, 4.0)]) == [(1, None), (2, 4.0)]
    assert thinned([(1, None), (2, None), (3, 1.0), (4, None)], most=2) == [(2, None), (4, 1.0)]


def test_a_journal_without_steps_has_no_curves() -> None:
    assert curves({"a": [{"event": "start", "key": "k"}]}) == []
