"""The suites of an evaluation with what they ask, and how each is asked of a model."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tunesmith.core import layout, ready_rows
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.data import row_kinds
from tunesmith.evaluation import grading
from tunesmith.evaluation.documents import SuiteMetrics, SuiteSettings
from tunesmith.evaluation.engines import with_images
from tunesmith.evaluation.engines.asked import AskedModel
from tunesmith.evaluation.harness import tasks
from tunesmith.evaluation.harness.scores import Loaded
from tunesmith.evaluation.suites import Answers, Evaluate, LmEvalTask, Perplexity, Preferences, Suite
from tunesmith.models import chat_template, preference_pairs
from tunesmith.models.chat import encode_example
from tunesmith.models.device import Profile
from tunesmith.models.engines.record import EngineRecord
from tunesmith.verifiers.judge.endpoint import Judge


@dataclass(frozen=True)
class SuiteRows:
    """A suite and its rows, or the task of lm-eval that brings its own."""

    name: str
    suite: Suite
    rows: list[Row]
    task: Loaded | None = None
    judge: Judge | None = None
    """The judge that grades the suite's answers; None where none does."""

    @property
    def dataset(self) -> str:
        return self.suite.task if isinstance(self.suite, LmEvalTask) else self.suite.dataset

    @property
    def seeing(self) -> bool:
        """Whether any of its prompts has an image."""
        return with_images.has_images(self.rows)

    @property
    def verifier(self) -> str | None:
        return self.suite.verifier if isinstance(self.suite, Answers) else None

    @property
    def metric(self) -> str | None:
        return self.task.label if self.task else None


def read(settings: Evaluate, folder: Path, judge: Judge | None = None) -> dict[str, SuiteRows]:
    """Every suite with its rows. folder: of ready data sets. judge: of the suites that want one.

    Raises DataError where the rows are of another kind than the suite asks for; EvaluationError where none can be
    graded, or a task of lm-eval cannot be loaded.
    """
    suites = {}
    for name, suite in settings.suites.items():
        if isinstance(suite, LmEvalTask):
            suites[name] = SuiteRows(name, suite, [], tasks.load(name, suite))
            continue
        rows = ready_rows.read(folder / suite.dataset / "test.jsonl")[: suite.limit]
        _check_kind(name, suite, rows)
        if isinstance(suite, Answers):
            grading.check_gradable(name, rows, suite)
        judged = isinstance(suite, Answers) and suite.refusal_by == "judge"
        suites[name] = SuiteRows(name, suite, rows, judge=judge if judged else None)
    return suites


def image_folders(suites: Iterable[SuiteRows], folder: Path) -> list[Path]:
    """The folders with the images of suites' prompts. folder: of ready data sets."""
    return list(dict.fromkeys(folder / suite.dataset / layout.IMAGES for suite in suites if suite.seeing))


def with_suites_template(suite: Suite, model: AskedModel) -> AskedModel:
    """``model`` with the suite's values in its chat template. Raises ChatError for a variable that it lacks."""
    return model.with_tokenizer(chat_template.with_kwargs(model.tokenizer, suite.chat_template_kwargs))


def ask(question: SuiteRows, model: AskedModel, at_once: int | None = None) -> list[Sample]:
    """A model's samples: the same questions to every model, greedily, through the one chat template.

    at_once: maximum number of prompts that are answered at once; None for the engine's default.
    """
    return answer(question, model, at_once)()


def answer(question: SuiteRows, model: AskedModel, at_once: int | None = None) -> Callable[[], list[Sample]]:
    """Ask a model as `ask` does, and return the function that grades its answers, to be called in the main thread.

    Graders of lm-eval and libraries of verifiers set alarms, which no other thread can. A task of lm-eval is asked only
    when it is graded, since lm-eval does both.
    """
    name, rows, model = question.name, question.rows, with_suites_template(question.suite, model)
    match question.suite:
        case Answers() as suite:
            completions = model.complete(rows, suite.max_new_tokens, at_once)
            return lambda: grading.grade(name, rows, completions, suite, question.judge)
        case Preferences():
            pairs = preference_pairs.encode(model.tokenizer, rows, model.context, "evaluate", Path(name))
            sides = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
            values = model.log_probs(sides, at_once and 2 * at_once)
            return lambda: grading.grade_preferences(name, rows, list(zip(values[::2], values[1::2], strict=True)))
        case Perplexity():
            examples = [
                encode_example(model.tokenizer, row["prompt"], row["completion"], row.get("tools")).split()
                for row in rows
            ]
            log_probs = model.log_probs(examples, at_once)
            lengths = [len(completion) for _, completion in examples]
            return lambda: grading.grade_perplexity(name, rows, log_probs, lengths)
        case LmEvalTask() as task:
            return lambda: model.ask_task(question.task or tasks.load(name, task), at_once)


def summary(rows: SuiteRows, answered: list[Sample]) -> SuiteMetrics:
    """The settings of a suite, and the counts and means of a model's answers to it."""
    details = grading.details(rows.verifier, answered) if rows.verifier else {}
    settings: SuiteSettings = {
        "kind": rows.suite.kind,
        "dataset": rows.dataset,
        "verifier": rows.verifier,
        "metric": rows.metric,
        "chat_template_kwargs": rows.suite.chat_template_kwargs,
    }
    return cast("SuiteMetrics", {**settings, **grading.summarize(answered), **details})


def key(
    settings: Evaluate,
    suites: dict[str, SuiteRows],
    code: str,
    base: str,
    profile: Profile,
    engine: EngineRecord | None,
) -> str:
    """Cache key of an evaluation, as SHA-256 in hex: everything that determines it except the model.

    code: the fingerprint of the stage. base: the digest of the base's manifest. engine: None for transformers.
    """
    rows = [[name, suite.rows, suite.task and tasks.digest(suite.task)] for name, suite in suites.items()]
    judges = [suite.judge.model_dump(mode="json") for suite in suites.values() if suite.judge]
    determinants = [settings.model_dump(mode="json"), rows, code, base, profile.name, engine, *judges]
    return hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()


def _check_kind(name: str, suite: Suite, rows: list[Row]) -> None:
    needed = {"preferences": "chosen", "perplexity": "completion"}.get(suite.kind)
    if marked := [row["id"] for row in rows if row_kinds.kind_of(row) == "marks"]:
        raise DataError(
            f"evaluate.suites.{name}: {len(marked)} of {len(rows)} answers are marked good or bad (row {marked[0]})",
            fix="name a data set of answers, pairs or scored prompts; a bad answer is nothing to compare with",
        )
    lacking = [row["id"] for row in rows if needed and needed not in row]
    if lacking:
        raise DataError(
            f"evaluate.suites.{name}: {len(lacking)} of {len(rows)} rows have no {needed!r} (row {lacking[0]})",
            fix="name a data set of another kind, or make it a suite of kind answers with a verifier",
        )
