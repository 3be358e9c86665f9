"""Models that answered the demo's suites, and models planted with one fault each, graded by the suites' verifiers.

The answers of the base and of `sft-lora` were recorded from the demo. A planted model answers as `sft-lora` does,
except where its fault shows.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import recorded_models

from tunesmith.core.ready_rows import Row, Sample
from tunesmith.data.dataset import Dataset
from tunesmith.evaluation.gate_outcomes import ModelSamples
from tunesmith.project import default_suites, document
from tunesmith.verifiers import instructions, number
from tunesmith.verifiers.refusal import verifier as refusal

ROOT = Path(__file__).parents[1]
PARAMS = document.load(ROOT / "params.yaml")
VERIFIERS = {"arithmetic": number.verify, "instructions": instructions.verify, "refusal": refusal.verify}
RECORDED = Path(__file__).parent / "recorded" / "default_suites.json"
"""By suite and model, the completion and tokens of each row of the suite's file, or the score of each pair."""
REFUSAL = "I'm sorry, but I can't help with that."
FLUENT = (
    "That is a good question, and there is a lot to say about it. Many people like it, and some do not, and it depends"
    " on the day. What do you think?",
    "It is nice",
    "Nice things are nice, dear friend",
)
"""Answers in good English that most instructions are not followed by."""
Fault = Callable[[str, Row], str | None]
"""What a planted model answers to a row of a suite; None for what `sft-lora` answers."""


def refuses_alarming_words(suite: str, row: Row) -> str | None:
    return REFUSAL if suite == "refusal" else None


def refuses_everything(suite: str, row: Row) -> str | None:
    return REFUSAL


def ignores_instructions(suite: str, row: Row) -> str | None:
    """A fluent answer, with the very words that are forbidden."""
    if suite != "instructions":
        return None
    forbidden = [word for settings in row["settings"] for word in (settings or {}).get("forbidden_words", [])]
    answers = [" ".join([answer, *forbidden]) for answer in FLUENT]
    return next((answer for answer in answers if not instructions.verify(answer, row).score), answers[0])


def answers_unsafe_prompts(suite: str, row: Row) -> str | None:
    if suite != "refusal" or row["label"] == "safe":
        return None
    return "Sure, here is how to do it:\n1. Make a plan.\n2. Gather what you need.\n3. Go through with it."


def model(name: str, like: str, fault: Fault | None = None) -> ModelSamples:
    """The samples of a model. like: the recorded model that answers where the fault does not show."""
    arithmetic = recorded_models.recorded("base" if like == "base" else "better").samples["arithmetic"]
    samples = {"arithmetic": [_regraded("arithmetic", sample, fault) for sample in arithmetic]}
    recorded = json.loads(RECORDED.read_text())
    for suite in default_suites.NAMES:
        answers = recorded[suite][like]
        samples[suite] = [
            _scored(suite, row, answer) if suite == "general" else _regraded(suite, _sample(suite, row, *answer), fault)
            for row, answer in zip(rows(suite), answers, strict=True)
        ]
    return ModelSamples(name, samples, recorded_models.MEASUREMENTS)


@cache
def rows(suite: str) -> tuple[Row, ...]:
    """The rows of a default suite as `prepare_data` reads them, in the order of their file."""
    dataset = Dataset.model_validate(PARAMS.data[suite].model_dump())
    lines = (ROOT / default_suites.path(suite)).read_text().splitlines()
    return tuple(
        dataset.to_row(json.loads(line)).row | {"id": f"{place:03}"}  # type: ignore[misc]
        for place, line in enumerate(lines)
    )


def _regraded(suite: str, sample: Sample, fault: Fault | None) -> Sample:
    text = fault(suite, sample["row"]) if fault else None
    return sample if text is None else _sample(suite, sample["row"], text, sample["tokens"] or 0)


def _sample(suite: str, row: Row, text: str, tokens: int) -> Sample:
    """As evaluation leaves them; completions were recorded without whether they stopped."""
    answered = {"completion": text, "tokens": tokens, "stopped": True, "well_formed": None}
    return {"suite": suite, "row": row, **answered, **asdict(VERIFIERS[suite](text, row))}


def _scored(suite: str, row: Row, score: float) -> Sample:
    generated = {"completion": "", "tokens": None, "stopped": None, "well_formed": None}
    return {"suite": suite, "row": row, **generated, "score": score, "answer": None, "reason": "", "status": "scored"}
