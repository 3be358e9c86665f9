"""Compare models that answered the same prompts: pure functions of their samples, metrics and training journals."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from tunesmith.core import journal, statistics
from tunesmith.core.errors import EvaluationError
from tunesmith.core.journal import Event
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.data import splits
from tunesmith.evaluation.candidates import Swept
from tunesmith.evaluation.differences import Compare, adjusted_differences, difference
from tunesmith.evaluation.documents import (
    AdjustedDifference,
    ComparedModel,
    Comparison,
    Cost,
    CostName,
    GateDecision,
    HeldOut,
    ModelMetrics,
    StartDifference,
    SuiteComparison,
    SuiteScore,
    SuiteSettings,
    Sweeps,
    TrainingUse,
)
from tunesmith.evaluation.trainings import selection, warnings
from tunesmith.models.engines import record

BASELINE = "base"
COSTS: tuple[CostName, ...] = ("seconds", "memory", "size")
"""Costs that quality is weighed against: training time, including every training that a model builds on; peak memory of
its own training; bytes of its weights as they are stored, an adapter's or all."""


@dataclass(frozen=True)
class Evaluated:
    """A model's evaluation, training and size."""

    metrics: ModelMetrics
    samples: dict[str, list[Sample]]
    """The samples of each suite, by its name."""
    training: list[Event]
    """The journal of its training; empty for the base."""
    weights_bytes: int
    """Bytes of its weights as they are stored; 0 for the base."""
    predicted_memory_bytes: int | None = None
    """The predicted peak of training memory, in bytes."""

    @property
    def name(self) -> str:
        return self.metrics["model"]

    @property
    def start(self) -> str | None:
        """The name of the model that its training started from."""
        return journal.first(self.training, "start").get("start")


def compare(
    models: list[Evaluated],
    trained_on: list[Row],
    settings: Compare,
    reward_models: dict[str, list[Event]] | None = None,
    decisions: dict[str, GateDecision] | None = None,
    hosted: Evaluated | None = None,
    swept: Mapping[str, Swept] | None = None,
) -> Comparison:
    """The content of reports/comparison.json: every suite, and more of the first, which ranks the models.

    trained_on: the ready rows of all trainings. reward_models: the journals of their trainings, by name. decisions: the
    gate's, by model. hosted: the model of a hosted service. swept: the models whose params sweeps chose, by name.
    Raises EvaluationError unless all models answered the same prompts, rendered by the same template, on one base, and
    no prompt is among the training rows.
    """
    baseline, *others = models
    _check_held_out(baseline, trained_on)
    _check_comparable(baseline, others)
    sweeps = {model.name: swept[model.name] for model in others if model.name in swept} if swept else {}
    candidates = {name: one.candidates for name, one in sweeps.items()}
    against = {
        other.name: adjusted_differences(baseline.samples, other.samples, settings, candidates.get(other.name, 1))
        for other in others
    }
    starts = _against_starts(models, settings, candidates)
    suites = {name: _suite_comparison(name, models, against, starts, settings) for name in baseline.samples}
    ranked = next(iter(suites))
    scores = suites[ranked]["models"]
    summaries = {model.name: _compared_model(model, scores[model.name], reward_models or {}) for model in models}
    best = max(models, key=lambda model: scores[model.name]["score"])  # the first of equals
    return {
        "dataset": suites[ranked]["dataset"],
        "verifier": suites[ranked]["verifier"],
        "prompts": suites[ranked]["prompts"],
        "prompts_digest": suites[ranked]["prompts_digest"],
        "suite": ranked,
        "confidence": settings.confidence,
        "baseline": baseline.name,
        "engine": record.name(baseline.metrics.get("engine")),
        "models": summaries,
        "against_baseline": suites[ranked]["against_baseline"],
        "against_start": suites[ranked]["against_start"],
        "best": best.name,
        "against_best": {
            model.name: difference(best.samples[ranked], model.samples[ranked], settings)
            for model in models
            if model is not best
        },
        "suites": suites,
        "gate": decisions or {},
        "sweeps": {name: _sweeps(one) for name, one in sweeps.items()},
        "hosted": hosted.metrics["hosted"] if hosted else None,
        "hosted_scores": {name: _suite_score(name, hosted, settings) for name in hosted.samples} if hosted else {},
        "reward_models": {name: _preferences(events) for name, events in (reward_models or {}).items()},
        "pareto": {cost: _pareto(summaries, cost) for cost in COSTS},
    }


def _suite_comparison(
    name: str,
    models: list[Evaluated],
    against: dict[str, dict[str, AdjustedDifference]],
    starts: dict[str, dict[str, StartDifference]],
    settings: Compare,
) -> SuiteComparison:
    """All models on one suite. against: each model but the base against it. starts: each against its start."""
    about = models[0].metrics["suites"][name]
    return {
        "kind": about["kind"],
        "dataset": about["dataset"],
        "verifier": about["verifier"],
        "metric": about["metric"],
        "chat_template_kwargs": about["chat_template_kwargs"],
        "share": statistics.are_shares(sample["score"] for model in models for sample in model.samples[name]),
        "prompts": about["prompts"],
        "prompts_digest": about["prompts_digest"],
        "models": {model.name: _suite_score(name, model, settings) for model in models},
        "against_baseline": {other: results[name] for other, results in against.items()},
        "against_start": {other: results[name] for other, results in starts.items()},
    }


def _sweeps(swept: Swept) -> Sweeps:
    return {"by": swept.by, "trials": sum(swept.tried.values()), "met_test": [*swept.applied]}


def _against_starts(
    models: list[Evaluated], settings: Compare, candidates: Mapping[str, int]
) -> dict[str, dict[str, StartDifference]]:
    """The differences, by suite, of each model from its start, where that is compared and is not the base."""
    baseline, by_name = models[0], {model.name: model for model in models}
    return {
        model.name: {
            suite: {"start": model.start, **result}
            for suite, result in adjusted_differences(
                by_name[model.start].samples, model.samples, settings, candidates.get(model.name, 1)
            ).items()
        }
        for model in models
        if model.start in by_name and model.start != baseline.name
    }


def _check_comparable(baseline: Evaluated, others: list[Evaluated]) -> None:
    for other in others:
        if (mismatch := _mismatch(other.metrics, baseline.metrics)) is not None:
            raise EvaluationError(
                f"{other.name} was evaluated with {mismatch} than {baseline.name}: no fair comparison",
                fix="evaluate both again with `dvc repro`",
            )


def _mismatch(theirs: ModelMetrics, ours: ModelMetrics) -> str | None:
    """The first reason why two evaluations cannot be compared; None if there is none."""
    if theirs["template_digest"] != ours["template_digest"]:
        return "prompts rendered by another chat template"
    if theirs["base_weights_digest"] != ours["base_weights_digest"]:
        return "another base"
    if theirs.get("engine") != ours.get("engine"):
        engines = (record.name(metrics.get("engine")) for metrics in (theirs, ours))
        return "another engine ({}, not {}), or other settings of it,".format(*engines)
    if list(theirs["suites"]) != list(ours["suites"]):
        return "other suites"
    for name, suite in theirs["suites"].items():
        if suite["prompts_digest"] != ours["suites"][name]["prompts_digest"]:
            return f"other prompts in {name}"
        if suite["verifier"] != ours["suites"][name]["verifier"] or suite["metric"] != ours["suites"][name]["metric"]:
            return f"another verifier or metric in {name}"
    return None


def _check_held_out(baseline: Evaluated, trained_on: list[Row]) -> None:
    trained = {splits.prompt_key(row["prompt"]) for row in trained_on}
    for name, samples in baseline.samples.items():
        seen = [sample["row"]["id"] for sample in samples if splits.prompt_key(sample["row"]["prompt"]) in trained]
        if seen:
            raise EvaluationError(
                f"{len(seen)} of {len(samples)} test prompts of {name} were also trained on "
                f"(rows {', '.join(seen[:5])})",
                fix="take those rows out of one of the two files; a model must be judged on prompts it has not seen",
            )


def _suite_score(suite: str, model: Evaluated, settings: Compare) -> SuiteScore:
    scores = [sample["score"] for sample in model.samples[suite] if sample["status"] != "not_gradable"]
    interval = statistics.mean_interval(scores, **settings.model_dump())
    about = (*SuiteSettings.__annotations__, "prompts_digest")
    counts = {key: value for key, value in model.metrics["suites"][suite].items() if key not in about}
    return cast("SuiteScore", {**counts, **asdict(interval)})


def _compared_model(model: Evaluated, score: SuiteScore, reward_models: Mapping[str, list[Event]]) -> ComparedModel:
    """A model with its score, the method and the cost of its training, and the training's warnings."""
    start = journal.first(model.training, "start")
    used = training_use(model)
    return {
        **score,
        "seconds": model.metrics["seconds"],
        "model_digest": model.metrics["model_digest"],
        "method": start.get("method"),
        "objective": start.get("objective"),
        "weights": start.get("weights"),
        "start": start.get("start"),
        "training": used,
        "weights_bytes": model.weights_bytes,
        "cost": cost(model, used),
        "held_out": _preferences(model.training),
        "warnings": warnings(model.training, reward_models),
    }


def _preferences(events: list[Event]) -> dict[str, HeldOut]:
    """The preference over pairs of the validation split that a training measured, before and after."""
    return {
        event["when"]: {
            "pairs": event.get("pairs"),
            "accuracy": event.get("accuracy"),
            "low": event.get("low"),
            "high": event.get("high"),
            "margin": event.get("margin"),
            "likelier": event.get("likelier"),
        }
        for event in events
        if event["event"] == "held_out"
    }


def training_use(model: Evaluated) -> TrainingUse:
    """The resources that a model's training used, and the seconds of every training that it builds on."""
    end = journal.first(model.training, "end")
    alone = {model.name: end["seconds"]} if end.get("seconds") is not None else {}
    return {
        "seconds": end.get("seconds"),
        "tokens": end.get("tokens"),
        "peak_memory_bytes": end.get("peak_memory_bytes"),
        "trainable_parameters": end.get("trainable_parameters"),
        "total_parameters": end.get("total_parameters"),
        "predicted_memory_bytes": model.predicted_memory_bytes,
        "datasets": journal.first(model.training, "start").get("datasets", {}),
        "costs": end.get("costs") or alone,
        "selection": selection(model.training),
    }


def cost(model: Evaluated, used: TrainingUse) -> Cost:
    """The costs of a model, COSTS; None where one was not measured. A model that was never trained costs 0."""
    if not model.training:
        return {"seconds": 0, "memory": 0, "size": 0}
    seconds = sum(used["costs"].values()) if used["costs"] else None
    return {"seconds": seconds, "memory": used["peak_memory_bytes"], "size": model.weights_bytes}


def _pareto(summaries: dict[str, ComparedModel], cost: CostName) -> list[str]:
    """The Pareto front of score and one cost; models whose cost was not measured are left out."""
    costs = {name: model["cost"][cost] for name, model in summaries.items()}
    return pareto_front({name: (summaries[name]["score"], cost) for name, cost in costs.items() if cost is not None})


def pareto_front(models: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the models on the Pareto front, the cheapest first. models: name -> (score, cost).

    A model is on it if no other is at least as good and at most as costly, and strictly so in one of the two. Models
    equal in both are on it together.
    """
    optimal = [
        name
        for name, (score, cost) in models.items()
        if not any(
            other_score >= score and other_cost <= cost and (other_score, other_cost) != (score, cost)
            for other_score, other_cost in models.values()
        )
    ]
    return sorted(optimal, key=lambda name: models[name][1])
