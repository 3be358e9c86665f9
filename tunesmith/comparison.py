"""Compare models that answered the same prompts: pure, from what evaluation and training wrote."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from tunesmith import journal, pareto, splits, statistics
from tunesmith.errors import EvaluationError
from tunesmith.evaluation import Sample
from tunesmith.journal import Event
from tunesmith.params import Section

BASELINE = "base"
COSTS = ("seconds", "memory", "size")
"""What quality is weighed against: training time, that of what a model was built on included; peak memory of its own
training; bytes of its weights as they are stored, an adapter's or all."""


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


def compare(
    models: list[Evaluated],
    trained_on: list[dict[str, Any]],
    settings: Compare,
    reward_models: dict[str, list[Event]] | None = None,
) -> dict[str, Any]:
    """The content of reports/comparison.json. trained_on: the ready rows that trained. reward_models: journals of
    what was trained beside, and answers no prompt.

    Raises EvaluationError unless all models answered the same prompts, rendered by the same template, on one base,
    and none of the prompts trained.
    """
    baseline, *others = models
    _check_held_out(baseline.samples, trained_on)
    _check_alike(baseline, others)
    known = {model.name: model for model in models}
    starts = {other.name: journal.first(other.training, "start").get("start") for other in others}
    summaries = {model.name: _summary(model, settings) for model in models}
    best = max(models, key=lambda model: model.metrics["score"])  # the first of equals
    return {
        "dataset": baseline.metrics["dataset"],
        "verifier": baseline.metrics["verifier"],
        "prompts": baseline.metrics["prompts"],
        "prompts_digest": baseline.metrics["prompts_digest"],
        "confidence": settings.confidence,
        "baseline": baseline.name,
        "models": summaries,
        "against_baseline": {other.name: _against(baseline, other, settings) for other in others},
        "against_start": {
            name: {"start": start, **_against(known[start], known[name], settings)}
            for name, start in starts.items()
            if start in known and start != baseline.name
        },
        "best": best.name,
        "against_best": {model.name: _against(best, model, settings) for model in models if model is not best},
        "reward_models": {name: _preferences(events) for name, events in (reward_models or {}).items()},
        "pareto": {cost: _front(summaries, cost) for cost in COSTS},
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


def _check_alike(baseline: Evaluated, others: list[Evaluated]) -> None:
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
    start = journal.first(model.training, "start")
    shown = ("score", "well_formed", "stopped", "no_answer", "not_gradable", "tokens", "seconds", "model_digest")
    training = _training(model)
    return {
        **{key: model.metrics[key] for key in shown},
        **asdict(interval),
        **{key: start.get(key) for key in ("method", "objective", "weights", "start")},
        "training": training,
        "weights_bytes": model.weights_bytes,
        "cost": _cost(model, training),
        "held_out": _preferences(model.training),
        "warnings": [event["text"] for event in model.training if event["event"] == "warning"],
    }


def _preferences(events: list[Event]) -> dict[str, Any]:
    """What a training said of held-out pairs, before and after."""
    told = ("pairs", "accuracy", "low", "high", "margin", "likelier")
    return {event["when"]: {key: event.get(key) for key in told} for event in events if event["event"] == "held_out"}


def _training(model: Evaluated) -> dict[str, Any]:
    """What a training used, and ``costs``: seconds of it and of every training it was built on."""
    start, end = journal.first(model.training, "start"), journal.first(model.training, "end")
    used = ("seconds", "tokens", "peak_memory_bytes", "trainable_parameters", "total_parameters")
    alone = {model.name: end["seconds"]} if end.get("seconds") is not None else {}
    return {
        **{key: end.get(key) for key in used},
        "predicted_memory_bytes": start.get("predicted_memory_bytes"),
        "costs": end.get("costs") or alone,
    }


def _cost(model: Evaluated, training: dict[str, Any]) -> dict[str, float | None]:
    """By COSTS; None where it was not measured. What was never trained costs nothing."""
    if not model.training:
        return dict.fromkeys(COSTS, 0)
    seconds = sum(training["costs"].values()) if training["costs"] else None
    return {"seconds": seconds, "memory": training["peak_memory_bytes"], "size": model.weights_bytes}


def _front(summaries: dict[str, dict[str, Any]], cost: str) -> list[str]:
    """Models whose cost is not known take no part."""
    return pareto.front(
        {
            name: (model["score"], model["cost"][cost])
            for name, model in summaries.items()
            if model["cost"][cost] is not None
        }
    )


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
