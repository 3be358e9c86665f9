"""Compare models that answered the same prompts: pure, from what evaluation and training wrote."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from tunesmith.core import journal, statistics
from tunesmith.core.errors import EvaluationError
from tunesmith.core.journal import Event
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Sample
from tunesmith.data import splits
from tunesmith.evaluation import margins

BASELINE = "base"
COSTS = ("seconds", "memory", "size")
"""What quality is weighed against: training time, that of what a model was built on included; peak memory of its own
training; bytes of its weights as they are stored, an adapter's or all."""


class Compare(Section):
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Coverage of every interval."""
    resamples: Annotated[int, Field(ge=200)] = 10_000
    """Of the bootstrap; with fewer, an interval's ends are noise."""
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class Evaluated:
    """A model's metrics and its samples by suite, with its training's journal and the bytes of its weights (none for
    the base)."""

    metrics: dict[str, Any]
    samples: dict[str, list[Sample]]
    training: list[Event]
    weights_bytes: int

    @property
    def name(self) -> str:
        return str(self.metrics["model"])

    @property
    def start(self) -> str | None:
        """The model it was trained from."""
        found: str | None = journal.first(self.training, "start").get("start")
        return found


def compare(
    models: list[Evaluated],
    trained_on: list[dict[str, Any]],
    settings: Compare,
    reward_models: dict[str, list[Event]] | None = None,
    decisions: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The content of reports/comparison.json: by suite, and of the first, by which models are ranked, more.

    trained_on: the ready rows that trained. reward_models: journals of what was trained beside, and answers no prompt.
    decisions: the gate's, by model.
    Raises EvaluationError unless all models answered the same prompts, rendered by the same template, on one base,
    and none of the prompts trained.
    """
    baseline, *others = models
    _check_held_out(baseline, trained_on)
    _check_alike(baseline, others)
    known = {model.name: model for model in models}
    against = {other.name: _adjusted(baseline, other, settings) for other in others}
    suites = {name: _suite(name, models, against, settings) for name in baseline.samples}
    ranked = next(iter(suites))
    scores = suites[ranked]["models"]
    summaries = {model.name: {**scores[model.name], **_about(model)} for model in models}
    best = max(models, key=lambda model: scores[model.name]["score"])  # the first of equals
    return {
        **{key: suites[ranked][key] for key in ("dataset", "verifier", "prompts", "prompts_digest")},
        "suite": ranked,
        "confidence": settings.confidence,
        "baseline": baseline.name,
        "models": summaries,
        "against_baseline": suites[ranked]["against_baseline"],
        "against_start": {
            model.name: {"start": model.start, **_against(ranked, known[model.start], model, settings)}
            for model in models
            if model.start in known and model.start != baseline.name
        },
        "best": best.name,
        "against_best": {model.name: _against(ranked, best, model, settings) for model in models if model is not best},
        "suites": suites,
        "gate": decisions or {},
        "reward_models": {name: _preferences(events) for name, events in (reward_models or {}).items()},
        "pareto": {cost: _front(summaries, cost) for cost in COSTS},
    }


def _suite(
    name: str, models: list[Evaluated], against: dict[str, dict[str, dict[str, Any]]], settings: Compare
) -> dict[str, Any]:
    """What one suite says of every model. against: `_adjusted` of each but the base."""
    about = models[0].metrics["suites"][name]
    return {
        **{key: about[key] for key in ("kind", "dataset", "verifier", "prompts", "prompts_digest")},
        "models": {model.name: _summary(name, model, settings) for model in models},
        "against_baseline": {other: results[name] for other, results in against.items()},
    }


def _adjusted(baseline: Evaluated, other: Evaluated, settings: Compare) -> dict[str, dict[str, Any]]:
    """A model against the base by suite; p-values are adjusted for the number of suites (Holm 1979)."""
    results = {suite: _against(suite, baseline, other, settings) for suite in baseline.samples}
    adjusted = statistics.holm([result["p_value"] for result in results.values()])
    found = {}
    for (suite, result), p_value in zip(results.items(), adjusted, strict=True):
        found[suite] = result | {"p_adjusted": p_value}
        found[suite]["verdict"] = verdict(found[suite], settings.confidence)
    return found


def verdict(difference: dict[str, Any], confidence: float) -> str:
    """On which side of zero the whole interval of the difference lies: "better", "worse", or "undecided".

    A test must agree (see `_against`): over few prompts, or few that differ, a bootstrap interval is too narrow; and
    after Holm where there are several suites.
    """
    if difference.get("p_adjusted", difference["p_value"]) >= 1 - confidence:
        return "undecided"
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "undecided"


def _check_alike(baseline: Evaluated, others: list[Evaluated]) -> None:
    for other in others:
        for key, what in (
            ("template_digest", "prompts rendered by another chat template"),
            ("base_weights_digest", "another base"),
        ):
            _check_equal(other.metrics[key], baseline.metrics[key], other, baseline, what)
        ours, theirs = baseline.metrics["suites"], other.metrics["suites"]
        _check_equal(list(theirs), list(ours), other, baseline, "other suites")
        for name in ours:
            for key, what in (("prompts_digest", "other prompts"), ("verifier", "another verifier")):
                _check_equal(theirs[name][key], ours[name][key], other, baseline, f"{what} in {name}")


def _check_equal(theirs: Any, ours: Any, other: Evaluated, baseline: Evaluated, what: str) -> None:
    if theirs != ours:
        raise EvaluationError(
            f"{other.name} was evaluated with {what} than {baseline.name}: no fair comparison",
            fix="evaluate both again with `dvc repro`",
        )


def _check_held_out(baseline: Evaluated, trained_on: list[dict[str, Any]]) -> None:
    known = {splits.prompt_key(row["prompt"]) for row in trained_on}
    for name, samples in baseline.samples.items():
        seen = [sample["id"] for sample in samples if splits.prompt_key(sample["prompt"]) in known]
        if seen:
            raise EvaluationError(
                f"{len(seen)} of {len(samples)} test prompts of {name} were also trained on "
                f"(rows {', '.join(seen[:5])})",
                fix="take those rows out of one of the two files; a model must be judged on what it has not seen",
            )


def _summary(suite: str, model: Evaluated, settings: Compare) -> dict[str, Any]:
    scores = [sample["score"] for sample in model.samples[suite] if sample["status"] != "not_gradable"]
    interval = statistics.mean_interval(scores, **settings.model_dump())
    measured = model.metrics["suites"][suite]
    known = {
        key: value for key, value in measured.items() if key not in ("kind", "dataset", "verifier", "prompts_digest")
    }
    return {**known, **asdict(interval)}


def _about(model: Evaluated) -> dict[str, Any]:
    """What a model is, what it cost, and what its training said."""
    start = journal.first(model.training, "start")
    used = training(model)
    return {
        **{key: model.metrics[key] for key in ("seconds", "model_digest")},
        **{key: start.get(key) for key in ("method", "objective", "weights", "start")},
        "training": used,
        "weights_bytes": model.weights_bytes,
        "cost": cost(model, used),
        "held_out": _preferences(model.training),
        "warnings": [event["text"] for event in model.training if event["event"] == "warning"],
    }


def _preferences(events: list[Event]) -> dict[str, Any]:
    """What a training said of held-out pairs, before and after."""
    told = ("pairs", "accuracy", "low", "high", "margin", "likelier")
    return {event["when"]: {key: event.get(key) for key in told} for event in events if event["event"] == "held_out"}


def training(model: Evaluated) -> dict[str, Any]:
    """What a training used, and ``costs``: seconds of it and of every training it was built on."""
    start, end = journal.first(model.training, "start"), journal.first(model.training, "end")
    used = ("seconds", "tokens", "peak_memory_bytes", "trainable_parameters", "total_parameters")
    alone = {model.name: end["seconds"]} if end.get("seconds") is not None else {}
    return {
        **{key: end.get(key) for key in used},
        "predicted_memory_bytes": start.get("predicted_memory_bytes"),
        "costs": end.get("costs") or alone,
    }


def cost(model: Evaluated, used: dict[str, Any]) -> dict[str, float | None]:
    """By COSTS; None where it was not measured. What was never trained costs nothing."""
    if not model.training:
        return dict.fromkeys(COSTS, 0)
    seconds = sum(used["costs"].values()) if used["costs"] else None
    return {"seconds": seconds, "memory": used["peak_memory_bytes"], "size": model.weights_bytes}


def _front(summaries: dict[str, dict[str, Any]], cost: str) -> list[str]:
    """Models whose cost is not known take no part."""
    return front(
        {
            name: (model["score"], model["cost"][cost])
            for name, model in summaries.items()
            if model["cost"][cost] is not None
        }
    )


def _against(suite: str, baseline: Evaluated, other: Evaluated, settings: Compare) -> dict[str, Any]:
    pairs = [
        (before, after)
        for before, after in zip(baseline.samples[suite], other.samples[suite], strict=True)
        if "not_gradable" not in (before["status"], after["status"])
    ]
    scores = [before["score"] for before, _ in pairs], [after["score"] for _, after in pairs]
    result = statistics.paired(*scores, **settings.model_dump())
    p_value = result.p_value
    if p_value is None:
        tested = margins.against_margin(*scores, 0.0, **settings.model_dump())
        p_value = min(1.0, 2 * min(tested.p_above, tested.p_below))
    difference = {"difference": result.difference, **asdict(result.interval), "p_value": p_value}
    return {
        **difference,
        "verdict": verdict(difference, settings.confidence),
        "prompts": len(pairs),
        "improved": [before["id"] for before, after in pairs if after["score"] > before["score"]],
        "regressed": [before["id"] for before, after in pairs if after["score"] < before["score"]],
    }


def front(models: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the models on the front, the cheapest first; models: name -> (score, cost).

    A model is on it if no other is at least as good and at most as costly, and strictly so in one of the two. Models
    alike in both do not push each other off.
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
