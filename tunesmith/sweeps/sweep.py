"""The run of a sweep: trials are started, followed by their journals, stopped where they fall behind, and recorded."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from tunesmith.core.errors import ParamsError, TrainingError
from tunesmith.core.journal import Event
from tunesmith.reports.sweep_page import SweepTrial, TrialState
from tunesmith.sweeps import measures, space
from tunesmith.sweeps.plan import Plan
from tunesmith.sweeps.study import Proposal, Study

POLL_SECONDS = 0.5
"""Seconds between two polls of the journals of running trials."""
HOPELESS = 3
"""The number of trials after which a sweep ends if all of them failed."""


class Running(Protocol):
    """A trial that runs (`tree.Run`)."""

    @property
    def status(self) -> int | None: ...
    def events(self) -> list[Event]: ...
    def end(self) -> None: ...


class Runner(Protocol):
    """A place in which one trial at a time runs (`tree.Tree`)."""

    def start(self, name: str, values: Mapping[str, object]) -> Running: ...
    def save(self, name: str, metric: Mapping[str, object], *, whole: bool) -> None: ...
    def failure(self, name: str) -> str: ...


@dataclass
class Followed:
    """A running trial. events: those of its journal, which a failed training removes. reported: the number of
    measurements that the study knows.
    """

    proposal: Proposal
    run: Running
    runner: Runner
    began: float
    events: list[Event] = field(default_factory=list)
    reported: int = 0


@dataclass
class Sweep:
    """A sweep. trials: how many to run in all. check: raises ParamsError for values that params.yaml cannot hold."""

    plan: Plan
    study: Study
    runners: Sequence[Runner]
    trials: int
    check: Callable[[Mapping[str, object]], None]
    say: Callable[[str], None] = print
    poll_seconds: float = POLL_SECONDS
    following: list[Followed] = field(default_factory=list)

    def run(self) -> list[SweepTrial]:
        """Run trials until there are enough, or nothing is left to try; return all that are over.

        An interrupt ends the running ones, which begin again, from their checkpoints, with the next run of the sweep.
        Raises TrainingError where trials do nothing but fail.
        """
        self.study.begin(self.trials, self.plan.present)
        proposed: Proposal | None
        try:
            while True:
                while (runner := self._free()) is not None and len(self.past) + len(self.following) < self.trials:
                    if (proposed := self.study.ask()) is None:
                        break
                    self._start(proposed, runner)
                if not self.following:
                    return self.past
                for followed in [*self.following]:
                    self._look(followed)
                self._check_hope()
                time.sleep(self.poll_seconds)
        finally:
            if self.following:
                self.say("ending the running trials")
            for followed in self.following:
                followed.run.end()

    @property
    def past(self) -> list[SweepTrial]:
        """The trials that are over, in the order of their numbers."""
        return sorted(
            cast("list[SweepTrial]", self.study.outcomes), key=lambda trial: (len(trial["name"]), trial["name"])
        )

    def _free(self) -> Runner | None:
        busy = [followed.runner for followed in self.following]
        return next((runner for runner in self.runners if runner not in busy), None)

    def _start(self, proposal: Proposal, runner: Runner) -> None:
        self.say(f"{proposal.name}: {shown(proposal.values)}")
        placed = self.plan.placed(proposal.values)
        began = time.monotonic()
        try:
            self.check(placed)
        except ParamsError as error:
            self.study.fail(proposal, self._outcome(proposal, [], "failed", error.reason, 0))
            self.say(f"  failed: {error.reason}")
            return
        self.following.append(Followed(proposal, runner.start(proposal.name, placed), runner, began))

    def _look(self, followed: Followed) -> None:
        """Report new measurements of a trial, and record its outcome if it has ended or is to be stopped."""
        status = followed.run.status  # before its events, so that the last are all there
        followed.events = events = followed.run.events() or followed.events
        new = measures.measured(events, self.plan.by)[followed.reported :]
        for step, value in new:
            followed.reported += 1
            self.say(f"  {followed.proposal.name}: validation {self.plan.by} {_number(value)} at step {step}")
            worst = float("inf") if self.plan.lower_is_better else float("-inf")
            behind = self.study.report(followed.proposal, followed.reported - 1, worst if value is None else value)
            if behind and status is None:
                followed.run.end()
                reason = f"behind the median after {followed.reported} measurements"
                return self._settle(followed, events, "stopped", reason)
        if status is None:
            return None
        followed.run.end()
        if status:
            return self._settle(followed, events, "failed", followed.runner.failure(followed.proposal.name))
        if measures.result(events, self.plan.by)[1] is None:
            reason = f"its validation {self.plan.by} was not measured, or is not finite"
            return self._settle(followed, events, "failed", reason)
        return self._settle(followed, events, "finished", "")

    def _settle(self, followed: Followed, events: list[Event], state: TrialState, reason: str) -> None:
        proposal, by = followed.proposal, self.plan.by
        outcome = self._outcome(proposal, events, state, reason, time.monotonic() - followed.began)
        measured = {by: outcome["value"], "step": outcome["step"], "trial": state}
        metric = {"validation": {name: value for name, value in measured.items() if value is not None}}
        followed.runner.save(proposal.name, metric, whole=state == "finished")
        self.following.remove(followed)
        if state == "finished":
            self.study.finish(proposal, cast("float", outcome["value"]), outcome)
            self.say(f"  {proposal.name}: finished, validation {by} {_number(outcome['value'])}")
        else:
            (self.study.stop if state == "stopped" else self.study.fail)(proposal, outcome)
            self.say(f"  {proposal.name}: {state}: {reason}")

    def _outcome(
        self, proposal: Proposal, events: list[Event], state: TrialState, reason: str, seconds: float
    ) -> SweepTrial:
        measured = measures.measured(events, self.plan.by)
        last: tuple[int | None, float | None] = measured[-1] if measured else (None, None)
        step, value = measures.result(events, self.plan.by) if state == "finished" else last
        return {
            "name": proposal.name,
            "values": proposal.values,
            "state": state,
            "reason": reason,
            "value": value,
            "step": step,
            "before": measures.before(events, self.plan.by),
            "measured": measured,
            "seconds": seconds,
        }

    def _check_hope(self) -> None:
        past = self.past
        if len(past) >= HOPELESS and all(trial["state"] == "failed" for trial in past):
            raise TrainingError(
                f"all of {len(past)} trials failed, the last: {past[-1]['reason']}",
                fix=f"correct the cause; the output of each is in {self.study.name}'s folder in build/sweeps",
            )


def shown(values: Mapping[str, object]) -> str:
    """The values of a trial in words."""
    return ", ".join(f"{param} {space.shown(value)}" for param, value in values.items())


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
