from typing import Any

import pytest
from reports.specs import drawn
from shoot_out import HOW, TUNED, evaluated, in_nats, models

from tunesmith.evaluation import comparison
from tunesmith.evaluation.comparison import COSTS
from tunesmith.evaluation.documents import Comparison
from tunesmith.reports import comparison_charts
from tunesmith.reports.charts import Chart


def compared(*names: str) -> Comparison:
    return comparison.compare(models(*names), [], HOW)


def rows(chart: Chart) -> dict[str, dict[str, Any]]:
    data: Any = chart.spec["data"]
    return {row["model"]: row for row in data["values"]}


def x_axis(chart: Chart) -> dict[str, Any]:
    layers: Any = chart.spec["layer"]
    axis: dict[str, Any] = layers[-1]["encoding"]["x"]
    return axis


@pytest.mark.parametrize("count", [1, 6, 8])
def test_every_model_is_drawn_in_every_chart(count: int) -> None:
    names = list(TUNED)[:count]
    whole = compared(*names)
    for chart in (comparison_charts.scores(whole), *(comparison_charts.cost(whole, cost) for cost in COSTS)):
        assert list(rows(chart)) == ["base", *names]
        assert [row[0] for row in chart.table] == ["base", *names]
        assert "<svg" in drawn(chart.spec)


def test_the_base_costs_nothing_and_has_no_place_on_the_axis() -> None:
    points = rows(comparison_charts.cost(compared("sft-lora", "sft-full"), "seconds"))
    assert points["base"]["cost"] is None
    assert points["sft-full"]["cost"] == pytest.approx(170.4 / 60)
    assert points["sft-full"]["cost_text"] == "2m 50s"


def test_costs_far_apart_get_a_logarithmic_axis() -> None:
    whole = compared("sft-lora", "sft-full", "rlhf")
    kinds = {cost: x_axis(comparison_charts.cost(whole, cost))["scale"]["type"] for cost in COSTS}
    assert kinds == {"seconds": "log", "memory": "linear", "size": "log"}
    assert x_axis(comparison_charts.cost(whole, "memory"))["title"] == "peak memory, GB"


def test_the_front_is_that_of_the_comparison() -> None:
    whole = compared("sft-lora", "grpo", "rlhf")
    points = rows(comparison_charts.cost(whole, "seconds"))
    assert [name for name, row in points.items() if row["front"]] == whole["pareto"]["seconds"]


def test_a_cost_that_was_not_measured_is_named_and_leaves_only_the_base() -> None:
    whole = comparison.compare([evaluated("base", ["0", "x"]), evaluated("old", ["0", "1"])], [], HOW)
    chart = comparison_charts.cost(whole, "memory")
    assert list(rows(chart)) == ["base"]
    assert chart.title.endswith("Not measured, not drawn: old")
    assert "base" in drawn(chart.spec)


def test_scores_that_are_no_shares_span_their_own_axis() -> None:
    whole = comparison.compare(in_nats(models("sft-lora")), [], HOW)
    chart = comparison_charts.scores(whole)
    encoding: Any = chart.spec["encoding"]
    low, high = encoding["x"]["scale"]["domain"]
    assert low < high < -3
    assert encoding["x"]["title"] == "log-probability of a word"
