"""Grade completions: a sample for every prompt, and the metrics over them."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, PositiveInt

from tunesmith import verifiers
from tunesmith.errors import EvaluationError
from tunesmith.params import Section
from tunesmith.ready import Row, reference


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return pattern


class Evaluate(Section):
    dataset: str
    """The dataset whose test split every model answers."""
    verifier: verifiers.Name
    answer_format: Annotated[str, AfterValidator(_compiles)] | None
    """A completion that matches this as a whole, white space around it aside, is in the trained format."""
    max_new_tokens: PositiveInt
    batch_size: PositiveInt


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


Sample = dict[str, Any]
"""{id, prompt, rendered, reference, completion, tokens, stopped, well_formed, score, answer, reason, status}"""


def check_references(rows: list[Row], settings: Evaluate) -> None:
    """Raise EvaluationError where the verifier can grade against none of the references, before anything is asked."""
    verify = verifiers.VERIFIERS[settings.verifier]
    verdicts = [verify("", reference(row)) for row in rows]
    if all(verdict.status == "not_gradable" for verdict in verdicts):
        raise EvaluationError(
            f"the verifier {settings.verifier!r} can grade none of the {len(rows)} test rows of {settings.dataset!r}; "
            f"the first: {verdicts[0].reason}",
            fix="name another verifier in params.yaml, evaluate.verifier, or other columns in data.<dataset>.columns",
        )


def grade(rows: list[Row], completions: list[Completion], settings: Evaluate) -> list[Sample]:
    """A sample for every ready row and its completion."""
    verify = verifiers.VERIFIERS[settings.verifier]
    samples = []
    for row, completion in zip(rows, completions, strict=True):
        gold = reference(row)
        samples.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "rendered": completion.rendered,
                "reference": gold,
                "completion": completion.text,
                "tokens": completion.tokens,
                "stopped": completion.stopped,
                "well_formed": _well_formed(completion.text, settings.answer_format),
                **asdict(verify(completion.text, gold)),
            }
        )
    return samples


def summarize(samples: list[Sample]) -> dict[str, Any]:
    """Counts and means. What could not be graded is left out of ``score`` and counted in ``not_gradable``."""
    graded = [sample for sample in samples if sample["status"] != "not_gradable"]
    formed = [sample["well_formed"] for sample in samples if sample["well_formed"] is not None]
    return {
        "prompts": len(samples),
        "prompts_digest": prompts_digest(samples),
        "score": sum(sample["score"] for sample in graded) / len(graded) if graded else None,
        "no_answer": sum(sample["status"] == "no_answer" for sample in samples),
        "not_gradable": len(samples) - len(graded),
        "well_formed": sum(formed) / len(formed) if formed else None,
        "stopped": sum(sample["stopped"] for sample in samples) / len(samples),
        "tokens": sum(sample["tokens"] for sample in samples),
    }


def prompts_digest(samples: list[Sample]) -> str:
    """SHA-256, in hex, over prompts, as messages and as rendered, and references.

    Models with the same digest were asked the same, to the letter (a template may write today's date).
    """
    asked = [[sample[key] for key in ("id", "prompt", "rendered", "reference")] for sample in samples]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _well_formed(completion: str, pattern: str | None) -> bool | None:
    return None if pattern is None else re.fullmatch(pattern, completion.strip(), re.DOTALL) is not None
