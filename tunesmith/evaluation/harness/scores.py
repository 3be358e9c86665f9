"""The scores of lm-eval's tasks, prompt by prompt.

lm-eval reports a figure over all prompts of a task; models are compared prompt by prompt. So a prompt's score is the
task's metric of that prompt alone, turned so that more is better: the negative of a metric of which less is better, and
log-probabilities where lm-eval reports a perplexity. A score from 0 to 1 is a share; any other keeps its unit.
"""

import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation.suites import LmEvalTask

LOG_PROBABILITIES = {
    "perplexity": "log-probability of an answer",
    "word_perplexity": "log-probability of a word",
    "byte_perplexity": "log-probability of a byte",
    "bits_per_byte": "log-probability of a byte",
}
"""Metrics that lm-eval computes from log-probabilities, and what the score is instead, in nats. Its mean orders models
as the metric does, and unlike a mean of perplexities it does not hang on the few worst prompts."""
OF_ALL_PROMPTS = ("f1", "mcc")
"""Metrics that have no meaning for a single prompt, unless a task computes them for each."""


@dataclass(frozen=True)
class Loaded:
    """The tasks of a suite with their data."""

    name: str
    """The name of the suite."""
    suite: LmEvalTask
    tasks: Mapping[str, Any]
    """lm-eval's task objects by name; several for a group."""
    metric: str
    """The metric that is the score."""

    @property
    def label(self) -> str:
        """What the score is, in words."""
        sign = "" if all(direction(task, self.metric) > 0 for task in self.tasks.values()) else "negative "
        return LOG_PROBABILITIES.get(self.metric, f"{sign}{self.metric}")


def filtered(loaded: Loaded, task: str, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples as one filter read them, in the order of their documents."""
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    chosen = loaded.suite.filter or filters[0]
    if chosen not in filters:
        raise EvaluationError(
            f"suite {loaded.name!r}: the task {task!r} has no filter {chosen!r}",
            fix=f"set evaluate.suites.{loaded.name}.filter in params.yaml to one of {', '.join(filters)}",
        )
    kept = sorted((one for one in samples if one["filter"] == chosen), key=lambda one: int(one["doc_id"]))
    values = [sample[loaded.metric] for sample in kept if loaded.metric in sample["metrics"]]
    if not values or any(score_of(loaded.tasks[task], loaded.metric, value) is None for value in values):
        first = kept[0]
        usable = [name for name in first["metrics"] if score_of(loaded.tasks[task], name, first[name]) is not None]
        raise EvaluationError(
            f"suite {loaded.name!r}: the task {task!r} has no metric {loaded.metric!r} with a value for each "
            "prompt, by which models could be compared",
            fix=f"set evaluate.suites.{loaded.name}.metric in params.yaml to one of {', '.join(usable)}"
            if usable
            else "leave the task out",
        )
    return kept


def score_of(task: Any, metric: str, value: Any) -> float | None:
    """A prompt's score by a metric, more being better; None where the metric has no value for a single prompt."""
    if metric in LOG_PROBABILITIES:
        total, count = value if isinstance(value, tuple) else (value, 1)
        return float(total) / count if count else math.nan
    if isinstance(value, numbers.Real | np.bool_):
        return direction(task, metric) * float(value) + 0.0  # no negative zero
    aggregate = task.aggregation().get(metric)
    if aggregate is None or metric in OF_ALL_PROMPTS:
        return None
    return direction(task, metric) * float(aggregate([value])) + 0.0


def direction(task: Any, metric: str) -> int:
    return -1 if task.higher_is_better().get(metric) is False else 1


def sample_of(loaded: Loaded, task: str, sample: dict[str, Any]) -> Sample:
    """One of lm-eval's samples as ours. Its ``arguments`` are, for each request, the context and the continuation that
    is scored, or the settings of generation."""
    several = len(loaded.tasks) > 1
    score = score_of(loaded.tasks[task], loaded.metric, sample.get(loaded.metric, math.nan))
    is_finite = score is not None and math.isfinite(score)
    response = sample["filtered_resps"][0]
    key = f"{loaded.name}-{task}-{sample['doc_id']}" if several else f"{loaded.name}-{sample['doc_id']}"
    row: Row = {
        "id": key,
        "prompt": [{"role": "user", "content": sample["arguments"][0][0]}],
        "reference": str(sample["target"]),
    }
    if several:
        row["task"] = task
    arguments = json.dumps(sample["arguments"], sort_keys=True, default=str)
    return {
        "suite": loaded.name,
        "row": row,
        "rendered": hashlib.sha256(arguments.encode()).hexdigest(),
        "completion": response if isinstance(response, str) else "",
        "tokens": None,
        "stopped": None,
        "well_formed": None,
        "score": score if score is not None and is_finite else 0.0,
        "answer": None,
        "reason": f"{loaded.label} {score:g}" if is_finite else f"the task gives this prompt no {loaded.metric}",
        "status": "scored" if is_finite else "not_gradable",
    }
