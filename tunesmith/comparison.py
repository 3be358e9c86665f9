"""Compare models that answered the same prompts: pure, from what evaluation and training wrote."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from tunesmith import journal, splits, statistics
from tunesmith.errors import EvaluationError
from tunesmith.evaluation import Sample
from tunesmith.journal import Event
from tunesmith.params import Section

BASELINE = "base"


class Compare(Section):
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Coverage of every interval."""
    resamples: Annotated[int, Field(ge=200)]
    """Of the bootstrap; with fewer, an interval's ends are noise."""
    seed: NonNegativeInt


@dataclass(frozen=True)
class Evaluated:
    """A model's metrics and samples, with its training's journal and the bytes of its weights (none for the base)."""

    metrics: dict[str, Any]
    samples: list[Sample]
    training: list[Event]
    weights_bytes: int

    @property
    def name(self) -> str:
        return str(self.metrics["model"])


def compare(models: list[Evaluated], trained_on: list[dict[str, Any]], settings: Compare) -> dict[str, Any]:
    """The content of reports/comparison.json. trained_on: the ready rows that trained.

    Raises EvaluationError unless all models answered the same prompts, rendered by the same template, on one base,
    and none of the prompts trained.
    """
    baseline, *others = models
    _check_held_out(baseline.samples, trained_on)
    for key, what in (
        ("prompts_digest", "other prompts"),
        ("template_digest", "prompts rendered by another chat template"),
        ("base_weights_digest", "another base"),
        ("verifier", "another verifier"),
    ):
        for other in others:
            if other.metrics[key] != baseline.metrics[key]:
                raise EvaluationError(
                    f"{other.name} was evaluated with {what} than {baseline.name}: no fair comparison",
                    fix="evaluate both again with `dvc repro`",
                )
    return {
        "dataset": baseline.metrics["dataset"],
        "verifier": baseline.metrics["verifier"],
        "prompts": baseline.metrics["prompts"],
        "prompts_digest": baseline.metrics["prompts_digest"],
        "confidence": settings.confidence,
        "baseline": baseline.name,
        "models": {model.name: _summary(model, settings) for model in models},
        "against_baseline": {other.name: _against(baseline, other, settings) for other in others},
    }


def verdict(difference: dict[str, Any], confidence: float) -> str:
    """On which side of zero the whole interval of the difference lies: "better", "worse", or "undecided".

    Right-or-wrong scores must pass the exact test too: over few prompts, or few that differ, a bootstrap interval is
    too narrow.
    """
    p_value = difference["p_value"]
    if p_value is not None and p_value >= 1 - confidence:
        return "undecided"
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "undecided"


def _check_held_out(samples: list[Sample], trained_on: list[dict[str, Any]]) -> None:
    known = {splits.prompt_key(row["prompt"]) for row in trained_on}
    seen = [sample["id"] for sample in samples if splits.prompt_key(sample["prompt"]) in known]
    if seen:
        raise EvaluationError(
            f"{len(seen)} of {len(samples)} test prompts were also trained on (rows {', '.join(seen[:5])})",
            fix="take those rows out of one of the two files; a model must be judged on what it has not seen",
        )


def _summary(model: Evaluated, settings: Compare) -> dict[str, Any]:
    scores = [sample["score"] for sample in model.samples if sample["status"] != "not_gradable"]
    interval = statistics.mean_interval(scores, **settings.model_dump())
    end = journal.first(model.training, "end")
    shown = ("score", "well_formed", "stopped", "no_answer", "not_gradable", "tokens", "seconds", "model_digest")
    return {
        **{key: model.metrics[key] for key in shown},
        **asdict(interval),
        "method": journal.first(model.training, "start").get("method"),
        "training": {
            key: end.get(key)
            for key in ("seconds", "tokens", "peak_memory_bytes", "trainable_parameters", "total_parameters")
        },
        "weights_bytes": model.weights_bytes,
    }


def _against(baseline: Evaluated, other: Evaluated, settings: Compare) -> dict[str, Any]:
    pairs = [
        (before, after)
        for before, after in zip(baseline.samples, other.samples, strict=True)
        if "not_gradable" not in (before["status"], after["status"])
    ]
    result = statistics.paired(
        [before["score"] for before, _ in pairs], [after["score"] for _, after in pairs], **settings.model_dump()
    )
    difference = {"difference": result.difference, **asdict(result.interval), "p_value": result.p_value}
    return {
        **difference,
        "verdict": verdict(difference, settings.confidence),
        "prompts": len(pairs),
        "improved": [before["id"] for before, after in pairs if after["score"] > before["score"]],
        "regressed": [before["id"] for before, after in pairs if after["score"] < before["score"]],
    }
