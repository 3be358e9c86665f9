"""The gate's decision on every model of a comparison."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tunesmith.comparison import BASELINE, Evaluated, cost, training
from tunesmith.errors import ParamsError
from tunesmith.evidence import Contender
from tunesmith.gate import decide
from tunesmith.rules import Gate
from tunesmith.samples import Sample
from tunesmith.trials import Repeats


def decide_all(gate: Gate, models: Sequence[Evaluated], repeats: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """By name of each model but the base: {against, outcome, reason, rules}. repeats: the base's further answers.

    The model that gate.against names is itself held against the base. Raises ParamsError where it names none;
    EvaluationError for a rule that nothing was measured for.
    """
    known = {model.name: model for model in models}
    again = by_suite(repeats)
    decisions = {}
    for model in models:
        if model.name == BASELINE:
            continue
        against = _baseline(gate, model, known)
        found = decide(gate, contender(against), contender(model), again if against.name == BASELINE else None)
        decisions[model.name] = {"against": against.name, **asdict(found)}
    return decisions


def contender(model: Evaluated) -> Contender:
    """A model as rules see it. Times are of the whole training, what it was built on included."""
    costs = cost(model, training(model))
    measured = {
        "training_seconds": costs["seconds"],
        "peak_memory_bytes": costs["memory"],
        "weights_bytes": costs["size"],
        "evaluation_seconds": model.metrics["seconds"],
    }
    return Contender(model.name, model.samples, measured)


def by_suite(repeats: Sequence[Sample]) -> Repeats:
    """Further evaluations of one model: for each suite, one list of samples for each time it was asked."""
    found: dict[str, dict[int, list[Sample]]] = {}
    for sample in repeats:
        found.setdefault(sample["suite"], {}).setdefault(sample["time"], []).append(sample)
    return {suite: list(times.values()) for suite, times in found.items()}


def _baseline(gate: Gate, model: Evaluated, known: dict[str, Evaluated]) -> Evaluated:
    """What ``gate.against`` means for this model."""
    wanted = (model.start or BASELINE) if gate.against == "start" else gate.against
    if wanted not in known:
        raise ParamsError(
            f"params.yaml: gate.against: {gate.against}: no model {wanted!r} was compared",
            fix=f"name one of start, {', '.join(known)}, and let `compare` in dvc.yaml have it",
        )
    return known[BASELINE if wanted == model.name else wanted]
