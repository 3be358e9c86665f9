"""Grade what models answered: a sample for every prompt, and the metrics over them."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.core import cpus
from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation.suites import Answers, compiled_format
from tunesmith.verifiers import catalog, instructions
from tunesmith.verifiers.regex import encoded


@dataclass(frozen=True)
class Completion:
    """What a model answered.

    rendered: SHA-256, in hex, of the prompt as the model got it. tokens: as generated, the end of turn included.
    stopped: whether there was an end of turn.
    """

    text: str
    rendered: str
    tokens: int
    stopped: bool


def check_gradable(name: str, rows: list[Row], suite: Answers) -> None:
    """Raise EvaluationError where the verifier can grade none of the rows, before anything is asked."""
    verdicts = [catalog.verify(suite.verifier, "no answer", row) for row in rows]
    if all(verdict.status == "not_gradable" for verdict in verdicts):
        raise EvaluationError(
            f"the verifier {suite.verifier!r} can grade none of the {len(rows)} test rows of {suite.dataset!r}, suite "
            f"{name!r}; the first: {verdicts[0].reason}",
            fix=f"name another verifier in params.yaml, evaluate.suites.{name}.verifier, or other columns in "
            f"data.{suite.dataset}.columns",
        )


def grade(name: str, rows: list[Row], completions: list[Completion], suite: Answers) -> list[Sample]:
    """A sample for every ready row and its completion. Verifiers that run processes do so on every CPU."""

    def one(row: Row, completion: Completion) -> Sample:
        return {
            "suite": name,
            **catalog.read_by(suite.verifier, row),
            "id": row["id"],
            "prompt": row["prompt"],
            "rendered": completion.rendered,
            "reference": row.get("reference", catalog.gold(suite.verifier, row)),
            "completion": completion.text,
            "tokens": completion.tokens,
            "stopped": completion.stopped,
            "well_formed": _well_formed(completion.text, suite.answer_format),
            **asdict(catalog.verify(suite.verifier, completion.text, row)),
        }

    with ThreadPoolExecutor(cpus.usable_cpus()) as pool:
        return list(pool.map(one, rows, completions))


def preferred(name: str, rows: list[Row], log_probs: Sequence[tuple[float, float]]) -> list[Sample]:
    """A sample for every pair. log_probs: of its chosen and of its rejected answer, in nats; a tie counts half."""
    return [
        _measured(name, row, row["chosen"], 0.5 if a == b else float(a > b), f"{a - b:+.2f} nats", a - b)
        for row, (a, b) in zip(rows, log_probs, strict=True)
    ]


def perplexities(name: str, rows: list[Row], log_probs: Sequence[float], tokens: Sequence[int]) -> list[Sample]:
    """A sample for every answer: its score is the geometric mean of its tokens' probabilities, 1 / perplexity."""
    means = [value / count for value, count in zip(log_probs, tokens, strict=True)]
    return [
        _measured(name, row, row["completion"], math.exp(mean), f"{-mean:.3f} nats a token", mean)
        for row, mean in zip(rows, means, strict=True)
    ]


def _measured(name: str, row: Row, right: list[dict[str, str]], score: float, reason: str, measured: float) -> Sample:
    """A sample of what was not generated but found likely or not; not gradable where a model's numbers overflow."""
    if not math.isfinite(measured):
        score, reason = 0.0, "the model's log-probability is no number"
    asked = json.dumps(row["prompt"], sort_keys=True)
    return {
        "suite": name,
        "id": row["id"],
        "prompt": row["prompt"],
        "rendered": hashlib.sha256(asked.encode()).hexdigest(),
        "reference": right[-1]["content"],
        "completion": "",
        "tokens": None,
        "stopped": None,
        "well_formed": None,
        "score": score,
        "answer": None,
        "reason": reason,
        "status": "scored" if math.isfinite(measured) else "not_gradable",
    }


def summarize(samples: list[Sample]) -> dict[str, Any]:
    """Counts and means. What could not be graded is left out of ``score`` and counted in ``not_gradable``."""
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


def details(verifier: str, samples: list[Sample]) -> dict[str, float]:
    """What is usually reported of a verifier beside its mean score."""
    return DETAILS[verifier](samples) if verifier in DETAILS else {}


def _refusals(samples: list[Sample]) -> dict[str, float]:
    """Shares of each class among prompts marked safe, and among those marked unsafe."""
    graded = [sample for sample in samples if sample["status"] != "not_gradable"]
    counts = Counter((sample["label"], sample["answer"]) for sample in graded if sample["answer"])
    asked = Counter(sample["label"] for sample in graded)
    return {f"{label}_{found}": count / asked[label] for (label, found), count in sorted(counts.items())}


def _instructions(samples: list[Sample]) -> dict[str, float]:
    """IFEval's four accuracies (Zhou et al. 2023, section 3): of prompts and of instructions, strict and loose."""
    gradable = [sample for sample in samples if sample["status"] != "not_gradable"]
    followed = [instructions.check(sample["completion"], sample) for sample in gradable]
    each = [one for answer in followed for one in answer]
    return {
        "prompt_strict": sum(all(one.strict for one in answer) for answer in followed) / max(len(followed), 1),
        "prompt_loose": sum(all(one.loose for one in answer) for answer in followed) / max(len(followed), 1),
        "instruction_strict": sum(one.strict for one in each) / max(len(each), 1),
        "instruction_loose": sum(one.loose for one in each) / max(len(each), 1),
    }


DETAILS: dict[str, Callable[[list[Sample]], dict[str, float]]] = {
    "instructions": _instructions,
    "refusal": _refusals,
}


def prompts_digest(samples: list[Sample]) -> str:
    """SHA-256, in hex, over prompts, as messages and as rendered, and references.

    Models with the same digest were asked the same, to the letter (a template may write today's date).
    """
    asked = [[sample[key] for key in ("id", "prompt", "rendered", "reference")] for sample in samples]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _mean(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _well_formed(completion: str, pattern: str | None) -> bool | None:
    return None if pattern is None else compiled_format(pattern).fullmatch(encoded(completion.strip())) is not None
