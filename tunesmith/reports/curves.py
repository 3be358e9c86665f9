"""Charts of the quantities that trainings record step by step, several trainings in one, with the validation split.

What is measured on the validation split is drawn in the chart of the training's same quantity: the score of greedy
answers in that of the verifier's score, or else of the reward.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tunesmith.core import journal
from tunesmith.core.journal import Event, StartEvent
from tunesmith.reports import charts
from tunesmith.reports.charts import Chart, Column, Row

ROUNDING = 1e-4
"""Rounding error of a loss that is 0 by construction: RLOO's on its own policy's answers."""
SMOOTHED = 20
"""Number of steps from which a running mean is drawn, as single steps are noise."""
DRAWN = 400
"""The most points of a line; of more steps, each point is the mean of several."""
TABLED = 8
"""About the number of points of a line that the table below a chart shows."""

QUANTITIES: dict[str, tuple[str, str]] = {
    "loss": ("loss", ",~r"),
    "validation_loss": ("validation loss, nats a pair", ",~r"),
    "reward": ("reward", ",~r"),
    "score": ("score by the verifier", "~%"),
    "kl": ("KL from the reference policy, nats", ",~r"),
    "completion_tokens": ("completion length, tokens", ",~r"),
    "equal_groups": ("groups of equal rewards", "~%"),
    "accuracy": ("accuracy: pairs ranked as marked", "~%"),
    "margin": ("margin, chosen − rejected", ",~r"),
    "drift": ("drift of the engine, nats a token", ",~r"),
    "learning_rate": ("learning rate", ",~r"),
    "grad_norm": ("gradient norm", ",~r"),
}
"""The title of each quantity that is drawn if a journal has it, and its axis' format, in the order of the charts."""
OBJECTIVES: dict[str, str] = {
    "sft": "SFT",
    "dpo": "DPO",
    "kto": "KTO",
    "reward": "reward model",
    "rlhf": "RLHF",
    "grpo": "GRPO",
}
"""The names of objectives in titles."""
INCOMPARABLE = ("loss", "reward")
"""Quantities that mean another thing for each objective, so that each has a chart of its own."""
PAIR_LOSSES = ("sigmoid", {"sigmoid": 1.0})
"""DPO's `loss_type` where its loss is that of the validation split, the surprise at a pair's label."""

Point = tuple[int, float | None]
"""A step and its value; None where it is not finite."""


@dataclass(frozen=True)
class Course:
    """A quantity of one training."""

    trained: Sequence[Point]
    measured: Sequence[Point]
    """The measurements on the validation split."""
    kept: int | None
    """The step whose weights the model has; None where the journal does not say."""


def curves(trainings: Mapping[str, Sequence[Event]]) -> list[Chart]:
    """A chart for every quantity that a journal names, of all trainings that name it: of INCOMPARABLE ones, a chart for
    each objective. trainings: journals by model.
    """
    by_model = {name: courses(events) for name, events in trainings.items()}
    drawn: dict[tuple[str, str], dict[str, Course]] = {}
    for quantity in QUANTITIES:
        for name, one in by_model.items():
            if quantity in one:
                objective = _objective(trainings[name]) if quantity in INCOMPARABLE else ""
                drawn.setdefault((quantity, objective), {})[name] = one[quantity]
    return [_chart(quantity, objective, of, list(by_model)) for (quantity, objective), of in drawn.items()]


def courses(events: Sequence[Event]) -> dict[str, Course]:
    """Every quantity that the journal's steps, or its measurements on the validation split, name."""
    trained, measured = ({name: _points(events, kind, name) for name in QUANTITIES} for kind in ("step", "validation"))
    if _are_close(trained["score"], trained["reward"]):  # the verifier is the reward
        trained["score"] = []
    if trained["reward"] and all(abs(value or 0) < ROUNDING for _, value in trained["loss"]):
        trained["loss"] = []
    if trained["reward"] and not trained["score"]:
        measured["reward"], measured["score"] = measured["score"], []
    if not _is_surprise(journal.first(events, "start")):
        measured["validation_loss"], measured["loss"] = measured["loss"], []
    kept = journal.first(events, "end").get("kept")
    return {name: Course(trained[name], measured[name], kept) for name in QUANTITIES if trained[name] or measured[name]}


def _chart(quantity: str, objective: str, of_models: Mapping[str, Course], models: Sequence[str]) -> Chart:
    """The chart of a quantity. models: all trainings of the page, each with its colour in every chart."""
    title, form = QUANTITIES[quantity]
    title += f", {objective}" if objective else ""
    rows = [row for name, course in of_models.items() for row in _rows(name, course)]
    lost = [
        f"{name}: not finite at any of {len(course.trained) + len(course.measured)} steps"
        for name, course in of_models.items()
        if all(value is None for _, value in (*course.trained, *course.measured))
    ]
    columns: dict[str, Column] = {
        "model": ("model", str),
        "kind": ("measured in", str),
        "step": ("step", "{:,}".format),
        "value_text": (title, str),
    }
    few = max(len(course.trained) for course in of_models.values()) < SMOOTHED
    return charts.chart(
        "training.json",
        rows,
        title=". ".join([title, *lost]),
        columns=columns,
        anchors={"<MODELS>": list(models), "<FORMAT>": form, "<QUANTITY>": title.split(",")[0], "<POINTS>": few},
        tabled=_tabled(rows),
    )


def _rows(model: str, course: Course) -> list[Row]:
    """The points of a training's lines: its steps, their running mean where there are many, and the measurements."""
    trained = thinned(course.trained)
    smooth = len(trained) >= SMOOTHED
    lines = [("training", running_mean(trained) if smooth else trained), ("validation", course.measured)]
    if smooth:
        lines.append(("single steps", trained))
    return [
        {
            "model": model,
            "kind": kind,
            "step": step,
            "value": None if value is None else float(f"{value:.6g}"),
            "value_text": "not finite" if value is None else f"{value:.4g}".replace("-", "−"),
            **({"kept": True} if kind == "validation" and step == course.kept else {}),
        }
        for kind, points in lines
        for step, value in points
    ]


def _tabled(rows: Sequence[Row]) -> list[Row]:
    """Some rows of every line, its first and its last among them."""
    lines: dict[tuple[object, object], list[Row]] = {}
    for row in rows:
        if row["kind"] != "single steps":
            lines.setdefault((row["model"], row["kind"]), []).append(row)
    chosen: list[Row] = []
    for line in lines.values():
        stride = max(1, len(line) // TABLED)
        chosen += [row for place, row in enumerate(line) if place % stride == 0 or place == len(line) - 1]
    return chosen


def thinned(points: Sequence[Point], most: int = DRAWN) -> list[Point]:
    """At most so many points: each the mean of as many neighbours, at the step of the last of them."""
    size = -(-len(points) // most) if points else 1
    if size == 1:
        return list(points)
    bins = (points[first : first + size] for first in range(0, len(points), size))
    return [(some[-1][0], _mean([value for _, value in some])) for some in bins]


def running_mean(points: Sequence[Point]) -> list[Point]:
    """The mean of the tenth of all steps around each value; missing values stay missing."""
    reach = len(points) // 20
    return [
        (step, None if value is None else _mean([near for _, near in points[max(0, at - reach) : at + reach + 1]]))
        for at, (step, value) in enumerate(points)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite) if finite else None


def _points(events: Sequence[Event], kind: str, name: str) -> list[Point]:
    """A quantity at the steps of the events of a kind that name it."""
    steps = [cast("dict[str, Any]", event) for event in events if event["event"] == kind]
    return [(event["step"], _finite(event[name])) for event in steps if name in event]


def _objective(events: Sequence[Event]) -> str:
    """A training's objective in words, with the loss of DPO where it is not the usual one."""
    start = journal.first(events, "start")
    name, loss = OBJECTIVES.get(start.get("objective", ""), ""), journal.entry(start).get("loss_type", "sigmoid")
    if name != "DPO" or loss in PAIR_LOSSES:
        return name
    return f"DPO by {' + '.join(loss) if isinstance(loss, dict) else loss}"


def _is_surprise(start: StartEvent) -> bool:
    """Whether the training's loss is what the validation split's is: the mean surprise at a token or at a label."""
    if start.get("objective") == "dpo":
        return journal.entry(start).get("loss_type", "sigmoid") in PAIR_LOSSES
    return start.get("objective") != "kto"


def _are_close(first: Sequence[Point], second: Sequence[Point]) -> bool:
    """Whether two curves have the same steps and the same values, up to rounding."""
    return len(first) == len(second) and all(
        step == other_step and (a is None) == (b is None) and math.isclose(a or 0, b or 0, rel_tol=1e-3)
        for (step, a), (other_step, b) in zip(first, second, strict=True)
    )


def _finite(value: object) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
