"""Does a model pass? From its answers, a baseline's, and rules to pass, fail or undecided, with the reason in words.

Every rule is tested for being kept and for being broken. A model passes where every rule is proven kept, each at the
full level: since all must be, one that breaks a rule passes with a chance of at most (1 - confidence) / 2, however
many rules there are (intersection-union, Berger 1982). It fails where a rule is proven broken: since any may be, after
Holm over all that are tested. What is neither is undecided.

An improvement must exceed the noise floor: what the baseline gains on itself from one evaluation to the next, no
training brought. The floor excuses no loss. Answers that flip from one evaluation to the next need no correction:
they differ, and so widen the interval.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.core import formatting, statistics
from tunesmith.core.errors import ParamsError
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.comparison import BASELINE, Evaluated, cost, training
from tunesmith.evaluation.gate_outcomes import Contender, Outcome, Repeats, RuleOutcome, Trial, attempt
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.evaluation.margins import MOST, required_prompts


@dataclass(frozen=True)
class Decision:
    """reason: one sentence. rules: what each came to, in the order of params.yaml."""

    outcome: Outcome
    reason: str
    rules: tuple[RuleOutcome, ...]


def decide(gate: Gate, baseline: Contender, challenger: Contender, repeats: Repeats | None = None) -> Decision:
    """Raises EvaluationError for a rule that nothing was evaluated or measured for, and where prompts differ."""
    attempts = [attempt(rule, gate, baseline, challenger, repeats or {}) for rule in gate.rules]
    trials = [one for one in attempts if isinstance(one, Trial)]
    adjusted = iter(statistics.holm([trial.p_broken for trial in trials]))
    rules = [_settle(one, next(adjusted), len(trials), gate) if isinstance(one, Trial) else one for one in attempts]
    outcome = _worst(rules)
    opening = {"pass": "passes", "fail": "fails", "undecided": "is undecided"}[outcome]
    reason = f"{challenger.name} {opening} against {baseline.name}: {_why(outcome, rules)}."
    return Decision(outcome, reason, tuple(rules))


def _settle(trial: Trial, p_broken: float, trials: int, gate: Gate) -> RuleOutcome:
    """p_broken: after Holm over so many trials."""
    needed = None
    if p_broken < 1 - gate.confidence:
        outcome: Outcome = "fail"
        told = f"the rule is broken ({_p(p_broken)}, Holm over {trials})"
    elif trial.p_kept < 1 - gate.confidence:
        outcome, told = "pass", f"the rule is kept ({_p(trial.p_kept)})"
    else:
        outcome, needed = "undecided", _needed(trial, trials, gate)
        more = f"about {formatting.count(needed)} more" if needed else f"not even {formatting.count(MOST)}"
        told = f"neither way is proven ({_p(min(p_broken, trial.p_kept))}); {more} prompts would decide"
    return RuleOutcome(trial.rule, outcome, f"{trial.figures}: {told}", trial.p_kept, p_broken, trial.regressed, needed)


def _needed(trial: Trial, trials: int, gate: Gate) -> int | None:
    """How many more prompts would decide, if they came out as these did."""
    # What points to a broken rule has to be shown after Holm, at worst over all of them.
    claims = 1 if trial.p_kept < trial.p_broken else trials
    required = required_prompts(trial.tested, confidence=1 - (1 - gate.confidence) / claims, power=gate.power)
    return None if required is None else max(1, required - trial.tested.prompts)


def _worst(rules: list[RuleOutcome]) -> Outcome:
    outcomes = {rule.outcome for rule in rules}
    if "fail" in outcomes:
        return "fail"
    return "undecided" if "undecided" in outcomes else "pass"


def _why(outcome: Outcome, rules: list[RuleOutcome]) -> str:
    if outcome == "pass":
        return f"every rule is kept ({len(rules)})"
    named, *others = (rule for rule in rules if rule.outcome == outcome)
    state = "broken" if outcome == "fail" else "undecided"
    more = f"; {len(others)} more of {len(rules)} rules {'is' if len(others) == 1 else 'are'} {state}" if others else ""
    return f"{named.rule}, but {named.reason}{more}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


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
