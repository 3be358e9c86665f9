"""reports/sweeps/<sweep>.json and .html: the trials of a sweep, what was chosen, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from tunesmith.reports import axes, templating
from tunesmith.reports.axes import NUMBER, SHARE, Axis, Position

TrialState: TypeAlias = Literal["finished", "stopped", "failed"]
"""Whether a trial ran to its end, was stopped since it fell behind, or failed."""
WIDTH, HEIGHT = 360, 250
"""Size of a plot, in SVG units."""
LEFT, RIGHT, TOP, BOTTOM = 52, 340, 12, 208
"""Edges of its drawing area."""
SPREAD = 10
"""Values that span more than this factor are drawn on a logarithmic axis."""


class SweepTrial(TypedDict):
    """A trial of a sweep."""

    name: str
    """The name of its DVC experiment."""
    values: dict[str, object]
    """The values that it tried, by param."""
    state: TrialState
    reason: str
    """Why it was stopped or failed; empty for a finished one."""
    value: float | None
    """The measurement on the validation split at `step`; null where there is none."""
    step: int | None
    """The step whose weights a finished trial kept, else the last that was measured."""
    before: float | None
    """The measurement before the first step."""
    measured: list[tuple[int, float | None]]
    """Every measurement after that, each as its step and its value."""
    seconds: float
    """The trial's duration, in seconds."""


class SweepReport(TypedDict):
    """A sweep."""

    name: str
    training: str
    """The training's place in params.yaml."""
    by: Literal["loss", "accuracy", "score"]
    """The measurement by which trials are compared."""
    lower_is_better: bool
    dataset: str
    rows: int
    """The number of validation rows."""
    commit: str
    """The commit that the experiments are based on."""
    sampler: str
    """The sampler with its seed, in words."""
    stops: str
    """When a trial was stopped, in words."""
    space: dict[str, str]
    """The values of each param, in words."""
    trials: list[SweepTrial]
    chosen: str | None
    """The name of the chosen trial; null where none finished."""
    why: str
    """Why, in a sentence."""


def choose(trials: Sequence[SweepTrial], *, lower_is_better: bool) -> SweepTrial | None:
    """The finished trial with the best measurement on the validation split; the first of equals; None without one."""
    sign = 1 if lower_is_better else -1
    finished = [trial for trial in trials if trial["state"] == "finished" and trial["value"] is not None]
    return min(finished, key=lambda trial: sign * (trial["value"] or 0), default=None)


def why(trials: Sequence[SweepTrial], by: str, *, lower_is_better: bool) -> str:
    """The choice in a sentence."""
    chosen = choose(trials, lower_is_better=lower_is_better)
    counts = {state: sum(trial["state"] == state for trial in trials) for state in ("finished", "stopped", "failed")}
    tried = f"{len(trials)} trials ({', '.join(f'{count} {state}' for state, count in counts.items() if count)})"
    if chosen is None:
        return f"None of {tried} can be chosen."
    others = [trial for trial in trials if trial is not chosen]
    second = choose(others, lower_is_better=lower_is_better)
    best = "lowest" if lower_is_better else "highest"
    sentence = f"{chosen['name']} has the {best} validation {by} of {tried}: {number(chosen['value'])}"
    return sentence + (f"; the next, {second['name']}, has {number(second['value'])}." if second else ".")


def number(value: float | None) -> str:
    """A measurement as text."""
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Plot:
    """The measurements of the trials against one param. y: their axis, whose ticks are drawn at the left."""

    title: str
    ticks: list[axes.Tick]
    """The labels of the param's values."""
    y: Axis
    points: list[tuple[Position, SweepTrial]]


def plots(report: SweepReport) -> list[Plot]:
    """A plot for each param, of all trials that were measured."""
    trials = [trial for trial in report["trials"] if trial["value"] is not None]
    if not trials:
        return []
    unit = SHARE if report["by"] == "accuracy" else NUMBER
    y = axes.linear([trial["value"] or 0 for trial in trials], (BOTTOM, TOP), unit, zero=False)
    return [_plot(param, trials, y) for param in report["space"]]


def _plot(param: str, trials: Sequence[SweepTrial], y: Axis) -> Plot:
    values = [trial["values"][param] for trial in trials]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) and len({*numbers}) > 1:
        spread = min(numbers) > 0 and max(numbers) > SPREAD * min(numbers)
        make = axes.logarithmic if spread else axes.linear
        axis = make(numbers, (LEFT + 12, RIGHT - 12), NUMBER) if spread else _linear(numbers)
        ticks, at = axis.ticks, [axis.at(value) for value in numbers]
    else:
        names = [*dict.fromkeys(map(str, values))]
        step = (RIGHT - LEFT) / len(names)
        places = {name: LEFT + step * (index + 0.5) for index, name in enumerate(names)}
        ticks, at = [axes.Tick(place, name) for name, place in places.items()], [places[str(value)] for value in values]
    points = [((x, y.at(trial["value"] or 0)), trial) for x, trial in zip(at, trials, strict=True)]
    return Plot(param, ticks, y, points)


def _linear(numbers: Sequence[float]) -> Axis:
    return axes.linear(numbers, (LEFT + 12, RIGHT - 12), NUMBER, zero=False)


@dataclass(frozen=True)
class Line:
    """The measurements of one trial as it ran."""

    points: list[Position]
    trial: SweepTrial


@dataclass(frozen=True)
class Courses:
    """The measurements of all trials by the number of the measurement."""

    x: Axis
    y: Axis
    lines: list[Line]


def courses(report: SweepReport) -> Courses | None:
    """The measurements of all trials as they ran, from that before the first step; None where there are none."""
    taken = [(trial, [trial["before"], *(value for _, value in trial["measured"])]) for trial in report["trials"]]
    runs = [(trial, [(at, value) for at, value in enumerate(run) if value is not None]) for trial, run in taken]
    values = [value for _, run in runs for _, value in run]
    if not values:
        return None
    last = max(place for _, run in runs for place, _ in run)
    unit = SHARE if report["by"] == "accuracy" else NUMBER
    y = axes.linear(values, (BOTTOM, TOP), unit, zero=False)
    x = Axis(0, last, LEFT, RIGHT, False, [*range(0, last + 1, math.ceil(last / 10))], lambda place: f"{place:.0f}")
    return Courses(x, y, [Line([(x.at(at), y.at(value)) for at, value in run], trial) for trial, run in runs if run])


def page(report: SweepReport) -> str:
    """The page as HTML."""
    sign = 1 if report["lower_is_better"] else -1
    places = {"finished": 0, "stopped": 1, "failed": 2}

    def place(trial: SweepTrial) -> tuple[int, float]:
        return places[trial["state"]], math.inf if trial["value"] is None else sign * trial["value"]

    return templating.render_html(
        "sweep.html.j2",
        report=report,
        trials=sorted(report["trials"], key=place),
        before=next((trial["before"] for trial in report["trials"] if trial["before"] is not None), None),
        plots=plots(report),
        courses=courses(report),
        number=number,
    )
