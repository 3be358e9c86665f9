"""CSV files that `dvc plots` draws, of this run and of earlier ones: scores by suite, and losses of each training."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Literal

from tunesmith.core import journal
from tunesmith.core.journal import Event
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.evaluation.documents import Comparison

MISSING = "NaN"


def scores(comparison: Comparison) -> dict[str, str]:
    """A CSV for each suite, by file name: one line per model, with its score and the ends of its interval."""
    columns: tuple[Literal["score", "low", "high"], ...] = ("score", "low", "high")
    return {
        f"{suite}.csv": _table(
            ["model", *columns],
            ({"model": name, **{end: result["models"][name][end] for end in columns}} for name in comparison["models"]),
        )
        for suite, result in comparison["suites"].items()
    }


def losses(models: Sequence[Evaluated], reward_models: dict[str, list[Event]]) -> dict[str, str]:
    """A CSV for each training, by file name: one line per step, with its loss, and that on the validation split.

    NaN stands where there is none, or none that is finite: DVC draws what is blank as 0.
    """
    journals = {model.name: model.training for model in models if model.training} | reward_models
    return {f"{name}.csv": _table(["step", "loss", "validation"], _losses(events)) for name, events in journals.items()}


def _losses(events: list[Event]) -> Iterable[dict[str, object]]:
    trained = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
    measured = {one["step"]: one["loss"] for one in journal.validations(events) if "loss" in one}
    for step in sorted({*trained, *measured}):
        values = {"loss": trained.get(step), "validation": measured.get(step)}
        yield {"step": step} | {name: MISSING if value is None else value for name, value in values.items()}


def _table(columns: Sequence[str], rows: Iterable[dict[str, object]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
