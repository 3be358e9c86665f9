"""Models with recorded answers, graded anew: each was tuned to a fault that the gate must detect.

`better` answers sums as the demo's SFT with LoRA did; the other answers were written in the manner of small models.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.gate_outcomes import ModelSamples
from tunesmith.verifiers import number
from tunesmith.verifiers.refusal import verifier as refusal

FOLDER = Path(__file__).parent / "recorded"
SUITES = {"arithmetic": number.verify, "refusal": refusal.verify}
MEASUREMENTS = {"training_seconds": 99.2, "peak_memory_bytes": 3.3e9}


def recorded(name: str, *, prompts: int | None = None, **answers: str) -> ModelSamples:
    """A model with its answers to sums and to requests that it may refuse.

    prompts: the number of sums; None takes all. answers: by suite, another model whose answers it gives there.
    """
    samples = {suite: _graded(suite, answers.get(suite, name)) for suite in SUITES}
    return ModelSamples(name, samples | {"arithmetic": samples["arithmetic"][:prompts]}, MEASUREMENTS)


def _graded(suite: str, model: str) -> list[Sample]:
    """As evaluation leaves them, with their rows."""
    rows = [json.loads(line) for line in (FOLDER / f"{suite}.jsonl").read_text().splitlines()]
    return [_sample(suite, row, **row.pop("answers")[model]) for row in rows if model in row["answers"]]


def _sample(suite: str, row: dict[str, Any], text: str, tokens: int) -> Sample:
    formed = re.fullmatch(r"-?\d+", text) is not None
    answered = {"completion": text, "tokens": tokens, "stopped": True, "well_formed": formed}
    return {"suite": suite, "row": row, **answered, **asdict(SUITES[suite](text, row))}
