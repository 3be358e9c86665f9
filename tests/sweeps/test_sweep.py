"""Sweeps over a fake training, whose validation loss follows from its values."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tunesmith.core.errors import IntegrityError, ParamsError, TrainingError
from tunesmith.core.journal import Event
from tunesmith.reports import sweep_page
from tunesmith.sweeps import space
from tunesmith.sweeps.plan import Plan
from tunesmith.sweeps.study import Study
from tunesmith.sweeps.sweep import Running, Sweep

STEPS = 5
Loss = Callable[[Mapping[str, object], int], float | None]
"""The loss of a fake trial, by its values and the number of the measurement."""


def distance(values: Mapping[str, object], at: int) -> float:
    """A loss that falls with each measurement, and is lowest at a rate of 0.01."""
    return abs(float(cast("float", values["sft.mine.learning_rate"])) - 0.01) + (STEPS - at) * 1e-3


class FakeRun:
    def __init__(self, values: Mapping[str, object], loss: Loss, status: int, journal: bool) -> None:
        self.values, self.loss, self._status, self.journal = values, loss, status, journal
        self.looks, self.ended = 0, False

    @property
    def status(self) -> int | None:
        self.looks += 1
        return None if self.looks < STEPS else self._status

    def events(self) -> list[Event]:
        if not self.journal:
            return []
        events: list[dict[str, object]] = [{"event": "start"}, {"event": "validation", "step": 0, "loss": 9.0}]
        for at in range(1, self.looks + 1):
            events.append({"event": "validation", "step": 10 * at, "loss": self.loss(self.values, at)})
        if self.looks >= STEPS:
            events.append({"event": "end", "steps": 10 * STEPS, "kept": 10 * STEPS})
        return cast("list[Event]", events)

    def end(self) -> None:
        self.ended = True


class FakeRunner:
    """Runs fake trials, and records them."""

    def __init__(self, loss: Loss = distance, *, status: int = 0, journal: bool = True) -> None:
        self.loss, self.status, self.journal = loss, status, journal
        self.started: dict[str, FakeRun] = {}
        self.saved: dict[str, tuple[dict[str, Any], bool]] = {}

    def start(self, name: str, values: Mapping[str, object]) -> Running:
        self.started[name] = FakeRun(values, self.loss, self.status, self.journal)
        return self.started[name]

    def save(self, name: str, metric: Mapping[str, object], *, whole: bool) -> None:
        self.saved[name] = (dict(metric), whole)

    def failure(self, name: str) -> str:
        return f"{name} does not fit"


RATE = ("learning_rate=1e-4:1e-1:log",)


def make(
    folder: Path,
    *runners: FakeRunner,
    over: tuple[str, ...] = RATE,
    trials: int = 8,
    prune: bool = True,
    present: dict[str, object] | None = None,
    check: Callable[[Mapping[str, object]], None] = lambda values: None,
) -> Sweep:
    dimensions = tuple(space.parse_all(over))
    plan = Plan("sft", "mine", dimensions, "loss", "rows", "c0ffee", present or {}, {}, "")
    study = Study(folder / "study.log", "mine-s1", dimensions, lower_is_better=True, seed=3, prune=prune)
    return Sweep(plan, study, runners, trials, check=check, say=lambda line: None, poll_seconds=0)


def test_trials_are_named_in_order_saved_and_the_best_on_validation_is_chosen(tmp_path: Path) -> None:
    runner = FakeRunner()
    trials = make(tmp_path, runner, present={"learning_rate": 0.0005}).run()
    assert [trial["name"] for trial in trials] == [f"mine-s1-{number:02d}" for number in range(1, 9)]
    assert trials[0]["values"] == {"learning_rate": 0.0005}  # the present value is tried first
    chosen = sweep_page.choose(trials, lower_is_better=True)
    finished = [trial for trial in trials if trial["state"] == "finished"]
    assert chosen is not None
    assert chosen["value"] == min(cast("float", trial["value"]) for trial in finished)
    metric, whole = runner.saved[chosen["name"]]
    assert metric == {"validation": {"loss": chosen["value"], "step": 50, "trial": "finished"}}
    assert whole
    assert set(runner.saved) == set(runner.started)


def test_a_trial_behind_the_median_is_stopped_and_ended_and_cannot_be_chosen(tmp_path: Path) -> None:
    runner = FakeRunner()
    trials = make(tmp_path, runner).run()
    stopped = [trial for trial in trials if trial["state"] == "stopped"]
    assert stopped
    assert {trial["state"] for trial in trials[:4]} == {"finished"}  # nothing to compare with before
    for trial in stopped:
        assert 1 < len(trial["measured"]) < STEPS  # the first measurement stops none
        assert runner.started[trial["name"]].ended
        assert runner.saved[trial["name"]][1] is False
        assert "behind the median" in trial["reason"]
    assert all(trial["state"] == "finished" for trial in make(tmp_path / "all", FakeRunner(), prune=False).run())


def test_the_same_seed_proposes_the_same_trials(tmp_path: Path) -> None:
    first, second = (make(tmp_path / name, FakeRunner()).run() for name in ("first", "second"))
    assert [trial["values"] for trial in first] == [trial["values"] for trial in second]


class Interrupt(FakeRunner):
    """Interrupts the sweep when the fourth trial has begun."""

    def start(self, name: str, values: Mapping[str, object]) -> Running:
        run = super().start(name, values)
        if len(self.started) == 4:
            self.loss = self.interrupt
            self.started[name].loss = self.interrupt
        return run

    def interrupt(self, values: Mapping[str, object], at: int) -> float:
        raise KeyboardInterrupt


def test_an_interrupted_sweep_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", FakeRunner(), prune=False).run()
    runner = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "broken", runner, prune=False).run()
    assert runner.started["mine-s1-04"].ended
    again = FakeRunner()
    trials = make(tmp_path / "broken", again, prune=False).run()
    assert [*again.started] == [f"mine-s1-{number:02d}" for number in range(4, 9)]
    assert [trial["values"] for trial in trials] == [trial["values"] for trial in whole]


def test_a_finished_sweep_takes_more_trials(tmp_path: Path) -> None:
    make(tmp_path, FakeRunner(), trials=3).run()
    runner = FakeRunner()
    assert len(make(tmp_path, runner, trials=5).run()) == 5
    assert len(runner.started) == 2


def test_every_combination_of_a_small_space_is_tried_once(tmp_path: Path) -> None:
    runner = FakeRunner()
    over = ("learning_rate=0.1,0.01", "epochs=1:3")
    trials = make(tmp_path, runner, over=over, trials=20, prune=False).run()
    assert len(trials) == 6
    assert len({json.dumps(trial["values"]) for trial in trials}) == 6


def test_several_runners_run_at_the_same_time(tmp_path: Path) -> None:
    runners = FakeRunner(), FakeRunner()
    trials = make(tmp_path, *runners).run()
    assert len(trials) == 8
    assert sorted([*runners[0].started, *runners[1].started]) == [trial["name"] for trial in trials]
    assert all(runner.started for runner in runners)


def test_values_that_do_not_go_together_fail_one_trial(tmp_path: Path) -> None:
    def check(values: Mapping[str, object]) -> None:
        if values["sft.mine.epochs"] == 1:
            raise ParamsError("params.yaml: sft.mine: not both", fix="-")

    trials = make(tmp_path, FakeRunner(), over=("learning_rate=0.1,0.01", "epochs=1,2"), check=check).run()
    assert {trial["state"] for trial in trials if trial["values"]["epochs"] == 1} == {"failed"}
    assert {trial["reason"] for trial in trials if trial["values"]["epochs"] == 1} == {
        "params.yaml: sft.mine: not both"
    }
    assert {trial["state"] for trial in trials if trial["values"]["epochs"] == 2} == {"finished"}


def not_at_a_tenth(values: Mapping[str, object], at: int) -> float | None:
    return None if values["sft.mine.learning_rate"] == 0.1 else 1.0


def test_a_loss_that_is_not_finite_fails_its_trial(tmp_path: Path) -> None:
    trials = make(tmp_path, FakeRunner(not_at_a_tenth), over=("learning_rate=0.1,0.01",), prune=False).run()
    assert {trial["values"]["learning_rate"]: trial["state"] for trial in trials} == {0.1: "failed", 0.01: "finished"}


def test_a_sweep_ends_where_trials_do_nothing_but_fail(tmp_path: Path) -> None:
    runner = FakeRunner(status=1, journal=False)
    with pytest.raises(TrainingError, match="all of 3 trials failed, the last: mine-s1-03 does not fit"):
        make(tmp_path, runner).run()
    assert len(runner.started) == 3


@pytest.mark.parametrize("trials", [2, 8])
def test_trials_of_which_all_failed_begin_again(tmp_path: Path, trials: int) -> None:
    with suppress(TrainingError):
        make(tmp_path, FakeRunner(status=1, journal=False), trials=trials).run()
    runner = FakeRunner()
    results = make(tmp_path, runner, trials=trials, prune=False).run()
    assert [trial["state"] for trial in results] == ["finished"] * trials
    assert [*runner.started] == [f"mine-s1-{number:02d}" for number in range(1, trials + 1)]


def test_a_failed_trial_stays_failed_where_another_finished(tmp_path: Path) -> None:
    over = ("learning_rate=0.1,0.01,0.001",)
    first = make(
        tmp_path, FakeRunner(not_at_a_tenth), over=over, trials=2, present={"learning_rate": 0.1}, prune=False
    ).run()
    runner = FakeRunner()
    make(tmp_path, runner, over=over, trials=3, prune=False).run()
    assert [trial["state"] for trial in first] == ["failed", "finished"]
    assert len(runner.started) == 1


def test_proposals_that_were_tried_before_do_not_hasten_the_first_stop(tmp_path: Path) -> None:
    sweep = make(tmp_path, FakeRunner(), over=("learning_rate=0.1,0.01", "epochs=1:3"), trials=5)
    trials = sweep.run()
    study = sweep.study.study.get_trials(deepcopy=False)
    assert any("repeat" in trial.user_attrs for trial in study)
    assert {trial["state"] for trial in trials[:4]} == {"finished"}


def test_a_hundredth_trial_comes_after_the_others(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    outcomes = [{"name": f"mine-s1-{number:02d}"} for number in (100, 99, 11)]
    sweep.study = cast("Study", SimpleNamespace(outcomes=outcomes))
    assert [trial["name"] for trial in sweep.past] == ["mine-s1-11", "mine-s1-99", "mine-s1-100"]


def test_a_record_that_was_cut_off_goes_on_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    make(tmp_path, FakeRunner(), trials=3).run()
    path = tmp_path / "study.log"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(make(tmp_path, FakeRunner(), trials=4).run()) == 4
    assert len(make(tmp_path, FakeRunner(), trials=5).run()) == 5
    path.write_bytes(b"{no\n" + path.read_bytes())
    with pytest.raises(IntegrityError, match="record of the sweep is damaged") as refused:
        make(tmp_path, FakeRunner(), trials=6)
    assert str(tmp_path) in refused.value.fix
