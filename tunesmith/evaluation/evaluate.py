"""The suites of an evaluation with what they ask, and how each is asked of a model."""

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tunesmith.core import ready_rows
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation import grading, lm_eval_harness
from tunesmith.evaluation.suites import Answers, Evaluate, Perplexity, Preferences, Suite, Task
from tunesmith.models import preference_pairs
from tunesmith.models.chat import encode_example
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import likelihoods


@dataclass(frozen=True)
class Question:
    """A suite and its rows; a task of lm-eval brings its own."""

    name: str
    suite: Suite
    rows: list[Row]

    @property
    def dataset(self) -> str:
        return self.suite.task if isinstance(self.suite, Task) else self.suite.dataset

    @property
    def verifier(self) -> str | None:
        return self.suite.verifier if isinstance(self.suite, Answers) else None


def read(settings: Evaluate, folder: Path) -> dict[str, Question]:
    """Every suite with its rows. folder: of ready data sets.

    Raises DataError where the rows are of another kind than the suite asks for; EvaluationError where none can be
    graded.
    """
    asked = {}
    for name, suite in settings.suites.items():
        rows = [] if isinstance(suite, Task) else ready_rows.read(folder / suite.dataset / "test.jsonl")[: suite.limit]
        _check_kind(name, suite, rows)
        if isinstance(suite, Answers):
            grading.check_gradable(name, rows, suite)
        asked[name] = Question(name, suite, rows)
    return asked


def ask(question: Question, opened: OpenModel, batch_size: int) -> list[Sample]:
    """A model's samples: the same questions to every model, greedily, through the one chat template."""
    name, rows = question.name, question.rows
    match question.suite:
        case Answers() as suite:
            tokens = suite.max_new_tokens
            completions = lm_eval_harness.generate(opened, rows, max_new_tokens=tokens, batch_size=batch_size)
            return grading.grade(name, rows, completions, suite)
        case Preferences():
            encode = partial(
                preference_pairs.encode, opened.tokenizer, rows, opened.model.config.max_position_embeddings
            )
            return grading.preferred(
                name, rows, preference_pairs.log_probs(opened, encode("evaluate", Path(name)), batch_size)
            )
        case Perplexity():
            examples = [encode_example(opened.tokenizer, row["prompt"], row["completion"]).split() for row in rows]
            found = [each.log_prob for each in likelihoods(opened, examples, batch_size=batch_size)]
            return grading.perplexities(name, rows, found, [len(completion) for _, completion in examples])
        case Task() as task:
            return lm_eval_harness.run_task(name, task, opened, batch_size=batch_size)


def key(settings: Evaluate, asked: dict[str, Question], base: str, profile: Profile) -> str:
    """SHA-256, in hex, of all but the model that an evaluation follows from. base: digest of its manifest.

    The code is that of every module of this project that is imported: an evaluation imports no more than it runs.
    """
    modules = [module.__file__ for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "tunesmith"]
    files = [*(Path(file) for file in modules if file), lm_eval_harness.TASK_FILE]
    told: list[Any] = [
        settings.model_dump(),
        [[name, question.rows] for name, question in asked.items()],
        [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        [base, profile.name],
        sorted(f"{package.name}=={package.version}" for package in metadata.distributions()),
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _check_kind(name: str, suite: Suite, rows: list[Row]) -> None:
    needed = {"preferences": "chosen", "perplexity": "completion"}.get(suite.kind)
    lacking = [row["id"] for row in rows if needed and needed not in row]
    if lacking:
        raise DataError(
            f"evaluate.suites.{name}: {len(lacking)} of {len(rows)} rows have no {needed!r} (row {lacking[0]})",
            fix="name a data set of another kind, or make it a suite of kind answers with a verifier",
        )
