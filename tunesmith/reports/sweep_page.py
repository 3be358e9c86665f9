"""reports/sweeps/<sweep>.json and .html: the trials of a sweep, what was chosen, and why."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict

from tunesmith.reports import charts, templating, vendored
from tunesmith.reports.charts import Chart, Row, Value

TrialState: TypeAlias = Literal["finished", "stopped", "failed"]
"""Whether a trial ran to its end, was stopped since it fell behind, or failed."""
SPREAD = 10
"""Values that span more than this factor are drawn on a logarithmic axis."""


PADDING = 12
"""Pixels between the first and last points and the ends of an axis."""


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


def plots(report: SweepReport) -> list[Chart]:
    """A chart for each param, of all trials that were measured, and one of their measurements as they ran."""
    trials = [trial for trial in _chosen_last(report) if trial["value"] is not None]
    if not trials:
        return []
    runs = [row for trial in _chosen_last(report) for row in _course(trial, report)]
    return [
        *(_by_param(param, trials, report) for param in report["space"]),
        *([_courses(runs, report)] if runs else []),
    ]


def _by_param(param: str, trials: Sequence[SweepTrial], report: SweepReport) -> Chart:
    values = [trial["values"][param] for trial in trials]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    quantities = len(numbers) == len(values) and len({*numbers}) > 1
    logarithmic = quantities and min(numbers) > 0 and max(numbers) > SPREAD * min(numbers)
    places: Sequence[float | str] = numbers if quantities else [*map(str, values)]
    rows: list[Row] = [
        {
            **_shown(trial, trial["value"], report),
            "tried": place,
            "tried_text": place if isinstance(place, str) else number(place),
        }
        for trial, place in zip(trials, places, strict=True)
    ]
    return charts.chart(
        "sweep_param.json",
        rows,
        title=f"{_measure(report)} against {param}",
        columns={
            "trial": ("trial", str),
            "tried_text": (param, str),
            "value_text": (_measure(report), str),
            "state": ("outcome", str),
        },
        anchors={
            **_anchors(report),
            "<PARAM>": param,
            "<TYPE>": "quantitative" if quantities else "nominal",
            "<SCALE>": _scale(logarithmic=logarithmic) if quantities else {},
        },
    )


def _scale(*, logarithmic: bool) -> dict[str, object]:
    if logarithmic:
        return {"type": "log", "padding": PADDING}
    return {"type": "linear", "zero": False, "padding": PADDING}


def _courses(rows: Sequence[Row], report: SweepReport) -> Chart:
    return charts.chart(
        "sweep_course.json",
        rows,
        title=f"{_measure(report)} of each trial as it ran",
        columns={
            "trial": ("trial", str),
            "measurement": ("measurement", "{:.0f}".format),
            "step": ("step", "{:.0f}".format),
            "value_text": (_measure(report), str),
        },
        anchors=_anchors(report),
    )


def _course(trial: SweepTrial, report: SweepReport) -> list[Row]:
    """The measurements of a trial, from that before the first step."""
    taken = enumerate([(0, trial["before"]), *trial["measured"]])
    return [
        {**_shown(trial, value, report), "measurement": at, "step": step}
        for at, (step, value) in taken
        if value is not None
    ]


def _shown(trial: SweepTrial, value: float | None, report: SweepReport) -> dict[str, Value]:
    chosen = trial["name"] == report["chosen"]
    state = "chosen" if chosen else trial["state"]
    return {"trial": trial["name"], "value": value, "value_text": number(value), "state": state, "chosen": chosen}


def _chosen_last(report: SweepReport) -> list[SweepTrial]:
    """The trials in the order in which they are drawn."""
    return sorted(report["trials"], key=lambda trial: (trial["name"] == report["chosen"], trial["name"]))


def _measure(report: SweepReport) -> str:
    return f"validation {report['by']}"


def _anchors(report: SweepReport) -> dict[str, object]:
    return {"<MEASURE>": _measure(report), "<FORMAT>": ".0%" if report["by"] == "accuracy" else ",~g"}


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
        vega=vendored.script(*vendored.CHARTS),
        number=number,
    )
