"""Does a model pass? From its answers, a baseline's, and rules to pass, fail or undecided, with the reason in words.

Every rule is tested for being kept and for being broken. A model passes if every rule is proven kept, each at the full
level: since all must be, a model that breaks one passes with a probability of at most (1 - confidence) / 2, however
many rules there are (intersection-union test, Berger 1982). It fails if any rule is proven broken, after Holm's
correction over all tested rules. Otherwise it is undecided.

Where several candidates for a model met the test split in turn, as winners of sweeps, the best of them passes by luck
more often than one: the p-value of each rule's being kept is multiplied by their number.

An improvement must exceed the noise floor: a gain that the baseline makes on itself from one evaluation to the next is
not due to training. The floor excuses no loss. Answers that flip from one evaluation to the next need no correction:
they differ, and so widen the interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from tunesmith.core import formatting, statistics
from tunesmith.core.errors import ParamsError
from tunesmith.core.ready_rows import Repeat, Sample
from tunesmith.evaluation import candidates as correction
from tunesmith.evaluation.candidates import Swept
from tunesmith.evaluation.comparison import BASELINE, Evaluated, cost, training_use
from tunesmith.evaluation.documents import GateDecision, Outcome
from tunesmith.evaluation.gate_outcomes import ModelSamples, Repeats, RuleOutcome, RuleTest, apply_rule
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.evaluation.margins import MAX_REQUIRED, required_prompts


@dataclass(frozen=True)
class Decision:
    """The gate's decision on one model."""

    outcome: Outcome
    reason: str
    """One sentence."""
    rules: tuple[RuleOutcome, ...]
    """The outcome of each rule, in the order of params.yaml."""


def decide(
    gate: Gate,
    baseline: ModelSamples,
    challenger: ModelSamples,
    repeats: Repeats | None = None,
    candidates: int = 1,
) -> Decision:
    """Hold a model against its baseline. candidates: the number of models in its place that met these prompts.

    Raises ParamsError for a gate without rules, which any model would pass; EvaluationError for a rule without samples
    or a measurement, and if the two did not answer the same prompts.
    """
    if not gate.rules:
        raise ParamsError("params.yaml: gate: it has no rules", fix="add a rule to gate.rules")
    applied = [apply_rule(rule, gate, baseline, challenger, repeats or {}) for rule in gate.rules]
    tests = [result for result in applied if isinstance(result, RuleTest)]
    adjusted = iter(statistics.holm([test.p_broken for test in tests]))
    rules = [
        _settle(result, next(adjusted), len(tests), gate, candidates) if isinstance(result, RuleTest) else result
        for result in applied
    ]
    outcomes = {rule.outcome for rule in rules}
    outcome: Outcome = "fail" if "fail" in outcomes else "undecided" if "undecided" in outcomes else "pass"
    opening = {"pass": "passes", "fail": "fails", "undecided": "is undecided"}[outcome]
    reason = f"{challenger.name} {opening} against {baseline.name}: {_why(outcome, rules)}."
    return Decision(outcome, reason, tuple(rules))


def _settle(test: RuleTest, p_broken: float, tests: int, gate: Gate, candidates: int) -> RuleOutcome:
    """The outcome of a test. p_broken: after Holm's correction over this many tests."""
    needed, p_kept = None, correction.adjusted(test.p_kept, candidates)
    of_several = f" as the best of {candidates} candidates" if candidates > 1 else ""
    if p_broken < 1 - gate.confidence:
        outcome: Outcome = "fail"
        conclusion = f"the rule is broken ({_p(p_broken)}, Holm over {tests})"
    elif p_kept < 1 - gate.confidence:
        outcome, conclusion = "pass", f"the rule is kept ({_p(p_kept)}{of_several})"
    else:
        outcome, needed = "undecided", _needed(test, tests, gate, candidates)
        more = f"about {formatting.count(needed)} more" if needed else f"not even {formatting.count(MAX_REQUIRED)}"
        conclusion = f"neither way is proven ({_p(min(p_broken, p_kept))}{of_several}); {more} prompts would decide"
    return RuleOutcome(
        rule=test.rule,
        outcome=outcome,
        reason=f"{test.figures}: {conclusion}",
        p_kept=p_kept,
        p_broken=p_broken,
        regressed=test.regressed,
        needed=needed,
    )


def _needed(test: RuleTest, tests: int, gate: Gate, candidates: int) -> int | None:
    """How many more prompts would decide if the observed effect were the truth."""
    # A broken rule must be proven after Holm's correction, which at worst multiplies its p-value by all tests.
    claims = candidates if test.p_kept < test.p_broken else tests
    required = required_prompts(test.test, confidence=1 - (1 - gate.confidence) / claims, power=gate.power)
    return None if required is None else max(1, required - test.test.prompts)


def _why(outcome: Outcome, rules: list[RuleOutcome]) -> str:
    if outcome == "pass":
        return f"every rule is kept ({len(rules)})"
    named, *others = (rule for rule in rules if rule.outcome == outcome)
    state = "broken" if outcome == "fail" else "undecided"
    more = f"; {len(others)} more of {len(rules)} rules {'is' if len(others) == 1 else 'are'} {state}" if others else ""
    return f"{named.rule}, but {named.reason}{more}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def decide_all(
    gate: Gate,
    models: Sequence[Evaluated],
    repeats: Sequence[Repeat],
    hosted: Evaluated | None = None,
    swept: Mapping[str, Swept] | None = None,
) -> dict[str, GateDecision]:
    """The gate's decision on every model but the base, by name.

    repeats: the base's further evaluations. hosted: the model of a hosted service, which is a baseline alone. swept:
    the models whose params sweeps chose, by name. The model that gate.against names is itself held against the base.
    Raises ParamsError if that model was not compared, and as `decide` does.
    """
    by_name = {model.name: model for model in (*models, *([hosted] if hosted else []))}
    again = by_suite(repeats)
    decisions: dict[str, GateDecision] = {}
    for model in models:
        if model.name == BASELINE:
            continue
        baseline = _baseline(gate, model, by_name)
        repeated = again if baseline.name == BASELINE else None
        candidates = swept[model.name].candidates if swept and model.name in swept else 1
        decision = decide(gate, model_samples(baseline), model_samples(model), repeated, candidates)
        decisions[model.name] = cast("GateDecision", {"against": baseline.name, **asdict(decision)})
    return decisions


def model_samples(model: Evaluated) -> ModelSamples:
    """A model's samples and measurements, for the rules."""
    costs = cost(model, training_use(model))
    measurements = {
        "training_seconds": costs["seconds"],
        "peak_memory_bytes": costs["memory"],
        "weights_bytes": costs["size"],
        "evaluation_seconds": model.metrics["seconds"],
    }
    return ModelSamples(model.name, model.samples, measurements)


def by_suite(repeats: Sequence[Repeat]) -> Repeats:
    """Further evaluations of one model: for each suite, one list of samples per evaluation."""
    evaluations: dict[str, dict[int, list[Sample]]] = {}
    for sample in repeats:
        evaluations.setdefault(sample["suite"], {}).setdefault(sample["time"], []).append(sample)
    return {suite: list(times.values()) for suite, times in evaluations.items()}


def _baseline(gate: Gate, model: Evaluated, models: dict[str, Evaluated]) -> Evaluated:
    """The model that ``gate.against`` names for this one."""
    name = (model.start or BASELINE) if gate.against == "start" else gate.against
    if name not in models:
        raise ParamsError(
            f"params.yaml: gate.against: {gate.against}: no model {name!r} was compared",
            fix=f"name one of start, {', '.join(models)}",
        )
    return models[BASELINE if name == model.name else name]
