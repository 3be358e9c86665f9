"""Grade completions: a sample for every prompt, and the metrics over them."""

import hashlib
import json
import re
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AfterValidator, PositiveInt

from tunesmith.params import Section
from tunesmith.verifiers import named


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return pattern


class Evaluate(Section):
    dataset: str
    """The dataset whose test split every model answers."""
    verifier: str
    answer_format: Annotated[str, AfterValidator(_compiles)] | None
    """A completion that matches this as a whole, white space around it aside, is in the trained format."""
    max_new_tokens: PositiveInt
    batch_size: PositiveInt


Sample = dict[str, Any]
"""{id, prompt, reference, completion, tokens, stopped, well_formed, score, answer, reason, status}"""


def grade(
    rows: list[dict[str, Any]], completions: list[str], token_counts: list[int], settings: Evaluate
) -> list[Sample]:
    """A sample for every ready row and its completion; ``token_counts`` are the lengths of the completions."""
    verify = named(settings.verifier)
    samples = []
    for row, completion, tokens in zip(rows, completions, token_counts, strict=True):
        reference = row["completion"][-1]["content"]
        samples.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "reference": reference,
                "completion": completion,
                "tokens": tokens,
                "stopped": tokens < settings.max_new_tokens,
                "well_formed": _well_formed(completion, settings.answer_format),
                **asdict(verify(completion, reference)),
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
    """SHA-256, in hex, over the prompts and references: models with the same digest answered the same questions."""
    asked = [[sample["id"], sample["prompt"], sample["reference"]] for sample in samples]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _well_formed(completion: str, pattern: str | None) -> bool | None:
    return None if pattern is None else re.fullmatch(pattern, completion.strip(), re.DOTALL) is not None
