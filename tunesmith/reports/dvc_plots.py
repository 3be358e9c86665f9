"""What `dvc plots` draws, of this run and of earlier ones: scores on every suite, and the loss of every training."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from tunesmith.core.journal import Event
from tunesmith.evaluation.comparison import Evaluated


def scores(comparison: dict[str, Any]) -> str:
    """A line a model, a column a suite, as CSV."""
    suites = comparison["suites"]
    rows = (
        {"model": name, **{suite: result["models"][name]["score"] for suite, result in suites.items()}}
        for name in comparison["models"]
    )
    return _table(["model", *suites], rows)


def losses(models: Sequence[Evaluated], reward_models: dict[str, list[Event]]) -> str:
    """A line a step, a column a training, as CSV; blank where a training has no such step."""
    journals = {model.name: model.training for model in models if model.training} | reward_models
    steps: dict[int, dict[str, Any]] = {}
    for name, events in journals.items():
        for event in events:
            if event["event"] == "step":
                steps.setdefault(event["step"], {"step": event["step"]})[name] = event["loss"]
    return _table(["step", *journals], (steps[step] for step in sorted(steps)))


def _table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
