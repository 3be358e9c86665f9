import copy
from html.parser import HTMLParser
from typing import Any

import pytest
from reports.specs import drawn
from reports.sweeps_made import TRIALS, report, trial

from tunesmith.reports import sweep_page
from tunesmith.reports.charts import Chart
from tunesmith.reports.sweep_page import SweepTrial


def test_the_first_of_the_best_finished_trials_is_chosen() -> None:
    chosen = sweep_page.choose(TRIALS, lower_is_better=True)
    assert chosen is not None
    assert chosen["name"] == "mine-s1-02"  # 03 did not finish, 04 is as good
    assert sweep_page.why(TRIALS, "loss", lower_is_better=True) == (
        "mine-s1-02 has the lowest validation loss of 5 trials (3 finished, 1 stopped, 1 failed): 0.5; the next, "
        "mine-s1-04, has 0.5."
    )
    highest = sweep_page.choose(TRIALS, lower_is_better=False)
    assert highest is not None
    assert highest["name"] == "mine-s1-01"


def test_nothing_is_chosen_where_none_finished() -> None:
    assert sweep_page.choose(TRIALS[4:], lower_is_better=True) is None
    assert sweep_page.why(TRIALS[4:], "loss", lower_is_better=True) == "None of 1 trials (1 failed) can be chosen."


class Tags(HTMLParser):
    """Checks that tags are closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "img"
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += 1
        if tag not in ("meta", "br", "!doctype"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1], TRIALS[4:]], ids=["several", "one", "none measured"])
def test_a_page_is_well_formed_shows_every_trial_and_runs_nothing(trials: list[SweepTrial]) -> None:
    page = sweep_page.page(report(copy.deepcopy(trials)))
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    trial_cells = tags.cells[: len(trials) + 1]
    assert set(trial_cells) == {7}  # name, two params, value, step, outcome, time
    assert all(one["name"] in page for one in trials)
    assert "<script>alert" not in page


def test_charts_show_what_was_measured() -> None:
    rate, weights, courses = sweep_page.plots(report(TRIALS))
    assert [row[1] for row in rate.table] == ["0.0001", "0.002", "0.003", "0.001"]  # the chosen trial is drawn last
    assert [row[3] for row in rate.table] == ["finished", "stopped", "finished", "chosen"]
    assert encoding(rate)["x"]["scale"]["type"] == "log"
    assert encoding(weights)["x"]["type"] == "nominal"
    assert [row[1] for row in weights.table] == ["lora", "lora", "full", "full"]
    assert len(courses.table) == 4 * 3  # and the measurement before the first step
    assert "validation loss" in drawn(courses.spec)
    for chart in (rate, weights):
        svg = drawn(chart.spec)
        assert svg.count('aria-hidden="true"') >= 1
        assert "validation loss" in svg
    assert sweep_page.plots(report(TRIALS[4:])) == []


def test_values_close_together_are_on_a_linear_axis() -> None:
    near = [trial(1, 0.9, 0.001), trial(2, 0.5, 0.002)]
    rate, *_ = sweep_page.plots(report(near))
    assert encoding(rate)["x"]["scale"] == {"type": "linear", "zero": False, "padding": sweep_page.PADDING}
    one, *_ = sweep_page.plots(report(near[:1]))
    assert encoding(one)["x"]["type"] == "nominal"


def encoding(chart: Chart) -> Any:
    return chart.spec["encoding"]
