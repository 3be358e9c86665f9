import itertools

import pytest
from shoot_out import HOW, TUNED, evaluated, models

from tunesmith.evaluation import comparison
from tunesmith.evaluation.comparison import COSTS
from tunesmith.reports.axes import overlap
from tunesmith.reports.scatter import BREAK, NOTHING, Scatter, scatter


def plots(*names: str) -> dict[str, Scatter]:
    compared = comparison.compare(models(*names), [], HOW)
    return {cost: scatter(compared, cost) for cost in COSTS}


@pytest.mark.parametrize("count", [1, 6, 7])
def test_every_model_is_drawn_inside_the_plot_and_no_label_covers_another(count: int) -> None:
    for plot in plots(*list(TUNED)[:count]).values():
        assert len(plot.points) == count + 1
        assert all(0 <= point.x <= 360 and 0 <= point.high <= point.y <= point.low <= 290 for point in plot.points)
        for first, second in itertools.combinations(plot.points, 2):
            assert overlap(first.label.box, second.label.box) == 0


def test_the_base_costs_nothing_and_stands_apart() -> None:
    for plot in plots("sft-lora", "sft-full").values():
        base, *tuned = plot.points
        assert base.x == NOTHING < BREAK
        assert base.optimal
        assert all(point.x > BREAK for point in tuned)


def test_costs_far_apart_get_a_logarithmic_axis() -> None:
    by_cost = plots("sft-lora", "sft-full", "rlhf")
    logarithmic = {cost: plot.x is not None and plot.x.logarithmic for cost, plot in by_cost.items()}
    assert logarithmic == {"seconds": True, "memory": False, "size": True}


def test_the_front_is_drawn_as_steps_through_its_models() -> None:
    plot = plots("sft-lora", "grpo")["seconds"]
    base, *others = (point for point in plot.points if point.optimal)
    assert plot.front.startswith(f"M{base.x} {base.y}")
    for point in others:
        assert f"H{point.x}V{point.y}" in plot.front


def test_a_cost_that_was_not_measured_leaves_only_the_base() -> None:
    compared = comparison.compare([evaluated("base", ["0", "x"]), evaluated("old", ["0", "1"])], [], HOW)
    plot = scatter(compared, "memory")
    assert [point.label.text for point in plot.points] == ["base"]
    assert (plot.x, plot.missing) == (None, ["old"])
