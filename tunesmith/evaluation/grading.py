"""Grade the answers of models: a sample for every prompt, and metrics over the samples."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from tunesmith.core import cpus, ready_rows
from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Message, Row, Sample, answer_text, reference, split_reasoning
from tunesmith.evaluation.documents import Details, Summary
from tunesmith.evaluation.suites import Answers, compiled_format
from tunesmith.verifiers import catalog, instructions, public_graders
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge
from tunesmith.verifiers.regex import utf8


@dataclass(frozen=True)
class Completion:
    """A model's answer to a prompt."""

    text: str
    rendered: str
    """SHA-256, in hex, of the prompt as the model got it."""
    tokens: int
    """The number of generated tokens, the end of turn included."""
    stopped: bool
    """Whether the model ended its turn."""


def check_gradable(name: str, rows: list[Row], suite: Answers) -> None:
    """Raise EvaluationError if the verifier can grade none of the rows, before any model is asked."""
    verdicts = [catalog.verify(suite.verifier, "no answer", row) for row in rows]
    if all(verdict.status == "not_gradable" for verdict in verdicts):
        raise EvaluationError(
            f"the verifier {suite.verifier!r} can grade none of the {len(rows)} test rows of {suite.dataset!r}, suite "
            f"{name!r}; the first: {verdicts[0].reason}",
            fix=f"name another verifier in params.yaml, evaluate.suites.{name}.verifier, or other columns in "
            f"data.{suite.dataset}.columns",
        )


def grade(
    name: str, rows: list[Row], completions: list[Completion], suite: Answers, judge: Judge | None = None
) -> list[Sample]:
    """A sample for every ready row and its completion, graded on all CPUs at once.

    judge: classifies the answers of a suite that says so (`Answers.refusal_by`).
    """

    def sample(row: Row, completion: Completion) -> Sample:
        if judge is not None and suite.refusal_by == "judge":
            verdict = judged_refusal.verify(judge, split_reasoning(completion.text)[1], row)
        else:
            verdict = catalog.verify(suite.verifier, completion.text, row)
        return {
            "suite": name,
            "row": _graded_row(suite.verifier, row),
            "rendered": completion.rendered,
            "completion": completion.text,
            "tokens": completion.tokens,
            "stopped": completion.stopped,
            "well_formed": _well_formed(completion.text, suite.answer_format),
            "score": verdict.score,
            "answer": verdict.answer,
            "reason": verdict.reason,
            "status": verdict.status,
        }

    with ThreadPoolExecutor(cpus.usable_cpus()) as pool:
        return list(pool.map(sample, rows, completions))


def _graded_row(verifier: str, row: Row) -> Row:
    """The columns of a row that its sample keeps."""
    gold = row.get("reference", catalog.gold(verifier, row))
    columns = {"id": row["id"], **ready_rows.asked(row), **catalog.columns_read(verifier, row), "reference": gold}
    return cast("Row", columns)


def grade_preferences(name: str, rows: list[Row], log_probs: Sequence[tuple[float, float]]) -> list[Sample]:
    """A sample for every pair. log_probs: of its chosen and of its rejected answer, in nats; a tie scores 0.5."""
    return [
        _likelihood_sample(name, row, row["chosen"], 0.5 if a == b else float(a > b), f"{a - b:+.2f} nats", a - b)
        for row, (a, b) in zip(rows, log_probs, strict=True)
    ]


def grade_perplexity(name: str, rows: list[Row], log_probs: Sequence[float], tokens: Sequence[int]) -> list[Sample]:
    """A sample for every answer; its score is the geometric mean of its tokens' probabilities, 1 / perplexity.

    log_probs: of each answer, in nats. tokens: the length of each answer.
    """
    means = [value / count for value, count in zip(log_probs, tokens, strict=True)]
    return [
        _likelihood_sample(name, row, row["completion"], math.exp(mean), f"{-mean:.3f} nats a token", mean)
        for row, mean in zip(rows, means, strict=True)
    ]


def _likelihood_sample(
    name: str, row: Row, answer: list[Message], score: float, reason: str, log_prob: float
) -> Sample:
    """A sample without a generated answer; not gradable if the log-probability that it is scored by is not finite."""
    if not math.isfinite(log_prob):
        score, reason = 0.0, "the model's log-probability is not finite"
    prompt = json.dumps(row["prompt"], sort_keys=True)
    return {
        "suite": name,
        "row": {"id": row["id"], "prompt": row["prompt"], "reference": answer_text(answer[-1])},
        "rendered": hashlib.sha256(prompt.encode()).hexdigest(),
        "completion": "",
        "tokens": None,
        "stopped": None,
        "well_formed": None,
        "score": score,
        "answer": None,
        "reason": reason,
        "status": "scored" if math.isfinite(log_prob) else "not_gradable",
    }


def summarize(samples: list[Sample]) -> Summary:
    """Counts and means. Samples that are not gradable are left out of ``score`` and counted in ``not_gradable``."""
    graded = [sample for sample in samples if sample["status"] != "not_gradable"]
    return {
        "prompts": len(samples),
        "prompts_digest": prompts_digest(samples),
        "score": _mean([sample["score"] for sample in graded]),
        "no_answer": sum(sample["status"] == "no_answer" for sample in samples),
        "not_gradable": len(samples) - len(graded),
        "well_formed": _mean([sample["well_formed"] for sample in samples]),
        "stopped": _mean([sample["stopped"] for sample in samples]),
        "tokens": sum(sample["tokens"] or 0 for sample in samples),
    }


def details(verifier: str, samples: list[Sample]) -> Details:
    """The metrics that are usually reported for a verifier, beside its mean score."""
    return DETAILS[verifier](samples) if verifier in DETAILS else {}


def _refusals(samples: list[Sample]) -> Details:
    """The share of each class of refusal among the prompts marked safe, and among those marked unsafe."""
    graded = [sample for sample in samples if sample["status"] != "not_gradable"]
    counts = Counter((sample["row"]["label"], sample["answer"]) for sample in graded if sample["answer"])
    prompts = Counter(sample["row"]["label"] for sample in graded)
    shares = {f"{label}_{refusal}": count / prompts[label] for (label, refusal), count in sorted(counts.items())}
    return cast("Details", shares)


def _instructions(samples: list[Sample]) -> Details:
    """IFEval's four accuracies (Zhou et al. 2023, section 3): of prompts and of instructions, strict and loose."""
    graded = [sample for sample in samples if sample["status"] != "not_gradable"]
    texts = [  # without an answer, none is followed
        split_reasoning(sample["completion"])[1] if sample["status"] == "scored" else "" for sample in graded
    ]
    answers = [instructions.check(text, sample["row"]) for text, sample in zip(texts, graded, strict=True)]
    checks = [check for answer in answers for check in answer]
    return {
        "prompt_strict": sum(all(check.strict for check in answer) for answer in answers) / max(len(answers), 1),
        "prompt_loose": sum(all(check.loose for check in answer) for answer in answers) / max(len(answers), 1),
        "instruction_strict": sum(check.strict for check in checks) / max(len(checks), 1),
        "instruction_loose": sum(check.loose for check in checks) / max(len(checks), 1),
    }


def _numbers(samples: list[Sample]) -> Details:
    """The shares by the two filters of lm-eval's gsm8k."""
    answers = [(sample["completion"], reference(sample["row"])) for sample in samples]
    return {
        "gsm8k_strict": sum(public_graders.gsm8k_strict(*answer) for answer in answers) / max(len(answers), 1),
        "gsm8k_flexible": sum(public_graders.gsm8k_flexible(*answer) for answer in answers) / max(len(answers), 1),
    }


def _math(samples: list[Sample]) -> Details:
    """The share by math-verify as it comes."""
    with ThreadPoolExecutor(cpus.usable_cpus()) as pool:
        right = pool.map(
            lambda sample: public_graders.math_verify(sample["completion"], reference(sample["row"])), samples
        )
    return {"math_verify": sum(right) / max(len(samples), 1)}


DETAILS: dict[str, Callable[[list[Sample]], Details]] = {
    "instructions": _instructions,
    "math": _math,
    "number": _numbers,
    "refusal": _refusals,
}


def prompts_digest(samples: list[Sample]) -> str:
    """SHA-256, in hex, over the prompts, as messages and as rendered, and the references.

    Models with the same digest got the same text: a template may write today's date.
    """
    prompts = [
        [sample["row"]["id"], sample["row"]["prompt"], sample["rendered"], sample["row"]["reference"]]
        for sample in samples
    ]
    return hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _well_formed(completion: str, pattern: str | None) -> bool | None:
    return None if pattern is None else compiled_format(pattern).fullmatch(utf8(completion.strip())) is not None
