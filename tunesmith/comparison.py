"""Compare models that answered the same prompts: pure, from what evaluation and training wrote."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from tunesmith import journal, statistics
from tunesmith.errors import EvaluationError
from tunesmith.evaluation import Sample
from tunesmith.journal import Event
from tunesmith.params import Section

BASELINE = "base"


class Compare(Section):
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Coverage of every interval."""
    resamples: PositiveInt
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


def compare(models: list[Evaluated], settings: Compare) -> dict[str, Any]:
    """The content of reports/comparison.json.

    Raises EvaluationError unless all models answered the same prompts, rendered by the same template, on one base.
    """
    baseline, *others = models
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


def verdict(difference: dict[str, Any]) -> str:
    """ "better", "worse" or "undecided": on which side of zero the whole interval of the difference lies."""
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "undecided"


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
        "verdict": verdict(difference),
        "prompts": len(pairs),
        "improved": [before["id"] for before, after in pairs if after["score"] > before["score"]],
        "regressed": [before["id"] for before, after in pairs if after["score"] < before["score"]],
    }
