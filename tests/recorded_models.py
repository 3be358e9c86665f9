"""Models whose answers were kept and are graded anew: what one was tuned to do wrong, the gate must see.

`better` answers sums as the demo's SFT with LoRA did; the other answers were written in the manner of small models.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.gate_outcomes import Contender
from tunesmith.verifiers import number, refusal

FOLDER = Path(__file__).parent / "recorded"
SUITES = {"arithmetic": number.verify, "refusal": refusal.verify}
MEASURED = {"training_seconds": 99.2, "peak_memory_bytes": 3.3e9}


def contender(name: str, *, prompts: int | None = None, **answers: str) -> Contender:
    """A model with its answers to sums, or to so many, and to what may be refused; answers: another's to a suite."""
    samples = {suite: _graded(suite, answers.get(suite, name)) for suite in SUITES}
    return Contender(name, samples | {"arithmetic": samples["arithmetic"][:prompts]}, MEASURED)


def _graded(suite: str, model: str) -> list[Sample]:
    """As evaluation leaves them, with the fields of their rows."""
    rows = [json.loads(line) for line in (FOLDER / f"{suite}.jsonl").read_text().splitlines()]
    return [_sample(suite, row, **row.pop("answers")[model]) for row in rows if model in row["answers"]]


def _sample(suite: str, row: dict[str, Any], text: str, tokens: int) -> Sample:
    formed = re.fullmatch(r"-?\d+", text) is not None
    answered = {"completion": text, "tokens": tokens, "stopped": True, "well_formed": formed}
    return row | answered | asdict(SUITES[suite](text, row))
