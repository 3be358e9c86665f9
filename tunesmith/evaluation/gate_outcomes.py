"""One rule of the gate, applied to the samples of a model and of its baseline: a test, or an outcome without one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.core import formatting, statistics
from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.core.statistics import Noise
from tunesmith.evaluation import margins
from tunesmith.evaluation.documents import Outcome
from tunesmith.evaluation.gate_rules import Gate, Improve, Keep, NotExceed, NotGrow, Rule, amount, gap
from tunesmith.evaluation.margins import MarginTest

Repeats = Mapping[str, Sequence[Sequence[Sample]]]
"""The baseline's further evaluations by suite, at the same batch size and at another."""


@dataclass(frozen=True)
class ModelSamples:
    """All that the gate reads of a model."""

    name: str
    samples: Mapping[str, Sequence[Sample]]
    """The samples of each suite, by its name."""
    measurements: Mapping[str, float | None]
    """Values of the metrics of `NotExceed`, in the unit that a name ends in; None where nothing was measured."""


@dataclass(frozen=True)
class Pairs:
    """A rule's metric on its prompts, before and after."""

    ids: list[str]
    """Ids of the prompts that were graded in both models, sorted."""
    before: list[float]
    """The baseline's metric on each of these prompts."""
    after: list[float]
    """The challenger's metric on each of these prompts."""
    left_out: int
    """The number of prompts that could not be graded in one of the models."""
    same: bool
    """Whether every answer was generated, and its text and score are equal in both models."""

    @property
    def prompts(self) -> int:
        """The number of the rule's prompts, graded or not."""
        return self.left_out + len(self.ids)

    @property
    def shares(self) -> bool:
        """Whether the metric is a share in both models."""
        return statistics.are_shares([*self.before, *self.after])

    def ids_where(self, condition: Callable[[float, float], bool]) -> tuple[str, ...]:
        """Ids of the prompts whose metric, before and after, meets a condition."""
        values = zip(self.ids, self.before, self.after, strict=True)
        return tuple(key for key, before, after in values if condition(before, after))


def pair(rule: Improve | Keep | NotGrow, baseline: ModelSamples, challenger: ModelSamples) -> Pairs:
    """Pair the samples of two models by the id of their prompt.

    Raises EvaluationError if the rule selects no prompt, its metric was not measured, or the models' prompts differ.
    """
    before, after = select(rule, baseline), select(rule, challenger)
    if before.keys() != after.keys():
        raise EvaluationError(
            f"{challenger.name} and {baseline.name} did not answer the same prompts of {rule.place}: "
            f"{len(before.keys() ^ after.keys())} have one answer",
            fix="evaluate both again with `dvc repro`",
        )
    ids = sorted(before)  # a decision does not depend on the order of rows
    graded = [
        key
        for key in ids
        if rule.metric != "score" or "not_gradable" not in (before[key]["status"], after[key]["status"])
    ]
    return Pairs(
        ids=graded,
        before=[float(before[key][rule.metric] or 0) for key in graded],
        after=[float(after[key][rule.metric] or 0) for key in graded],
        left_out=len(ids) - len(graded),
        same=all(
            before[key]["tokens"] is not None and before[key][field] == after[key][field]
            for key in ids
            for field in ("completion", "score")
        ),
    )


def select(rule: Improve | Keep | NotGrow, model: ModelSamples) -> dict[str, Sample]:
    """The samples of a rule's prompts, by id. Raises EvaluationError as `pair` does."""
    if rule.suite not in model.samples:
        suites = ", ".join(model.samples)
        raise _unusable(rule, f"{model.name} answered no suite {rule.suite!r}, only {suites}", "name one of these")
    suite, where = model.samples[rule.suite], rule.where or {}
    chosen = [sample for sample in suite if all(sample["row"].get(key) == value for key, value in where.items())]
    if not chosen:
        values = {key: sorted({str(sample["row"].get(key)) for sample in suite}) for key in where}
        present = "; ".join(f"{key} is {', '.join(shown[:5])}" for key, shown in values.items() if shown)
        reason = f"it selects no sample of {rule.suite}, where {present}" if present else f"{rule.suite} has no samples"
        raise _unusable(rule, reason, "correct its `where`")
    if any(sample.get(rule.metric) is None for sample in chosen):
        fix = "give the suite an answer_format for well_formed; a suite that generates nothing has the score alone"
        raise _unusable(rule, f"samples of {model.name} have no {rule.metric}", fix)
    by_id = {sample["row"]["id"]: sample for sample in chosen}
    if len(by_id) < len(chosen):
        raise _unusable(rule, f"{len(chosen) - len(by_id)} prompts of {rule.suite} share an id", "give each its own")
    return by_id


def measurement(rule: NotExceed, model: ModelSamples) -> float | None:
    """The value that a rule limits, None if it was not measured. Raises EvaluationError for an unknown metric."""
    if rule.metric not in model.measurements:
        metrics = ", ".join(model.measurements) or "nothing"
        raise _unusable(rule, f"only {metrics} was measured of {model.name}", "name one of these")
    return model.measurements[rule.metric]


def _unusable(rule: Improve | Keep | NotGrow | NotExceed, reason: str, fix: str) -> EvaluationError:
    return EvaluationError(f"params.yaml: gate.rules: {rule.describe('the baseline')!r}: {reason}", fix=fix)


@dataclass(frozen=True)
class RuleOutcome:
    """The outcome of one rule."""

    rule: str
    """The rule as a sentence."""
    outcome: Outcome
    reason: str
    """The figures and the outcome, in words."""
    p_kept: float | None = None
    """Two-sided p-value of the claim that the rule is kept; None without a test."""
    p_broken: float | None = None
    """Two-sided p-value of the claim that it is broken, after Holm's correction; None without a test."""
    regressed: tuple[str, ...] = ()
    """Ids of the prompts that speak against the rule."""
    needed: int | None = None
    """How many more prompts would probably decide; None if it is decided, or if `margins.MAX_REQUIRED` would not do."""


@dataclass(frozen=True)
class RuleTest:
    """The test of one rule, before Holm's correction over all of them turns it into an outcome."""

    rule: str
    """The rule as a sentence."""
    figures: str
    """The observed figures, in words."""
    test: MarginTest
    lower_is_better: bool
    """Whether the rule is kept below the margin."""
    regressed: tuple[str, ...]
    """Ids of the prompts that speak against the rule."""

    @property
    def p_kept(self) -> float:
        """Two-sided p-value of the claim that the rule is kept."""
        return min(1.0, 2 * (self.test.p_below if self.lower_is_better else self.test.p_above))

    @property
    def p_broken(self) -> float:
        """Two-sided p-value of the claim that the rule is broken."""
        return min(1.0, 2 * (self.test.p_above if self.lower_is_better else self.test.p_below))


def apply_rule(
    rule: Rule, gate: Gate, baseline: ModelSamples, challenger: ModelSamples, repeats: Repeats
) -> RuleTest | RuleOutcome:
    """Test a rule; or return its outcome, if that needs no test or too few prompts could be graded for one."""
    if isinstance(rule, NotExceed):
        return _limit(rule.describe(baseline.name), rule, challenger)
    pairs = pair(rule, baseline, challenger)
    sentence = rule.describe(baseline.name, pairs.shares)
    if not isinstance(rule, NotGrow) and pairs.shares and rule.margin >= 1:
        raise _unusable(rule, f"{rule.metric} is a share on {rule.suite}, from 0 to 1", "name a margin below 1")
    if not pairs.ids or pairs.left_out > gate.max_not_gradable * pairs.prompts:
        left_out = f"{pairs.left_out} of {pairs.prompts} prompts could not be graded"
        return RuleOutcome(sentence, "undecided", f"{left_out}: the others do not speak for them")
    if isinstance(rule, Improve) and pairs.same:
        return RuleOutcome(sentence, "fail", f"none of {pairs.prompts} answers differs from {baseline.name}'s")
    settings = gate.model_dump(include={"confidence", "resamples", "seed"})
    if isinstance(rule, NotGrow):
        test = margins.ratio_test(pairs.before, pairs.after, rule.beyond, **settings)
        longer = pairs.ids_where(lambda before, after: after > rule.beyond * before)
        return RuleTest(sentence, _lengths(pairs, test, gate), test, lower_is_better=True, regressed=longer)
    margin, note = _margin(rule, pairs, baseline, repeats)
    test = margins.difference_test(pairs.before, pairs.after, margin, **settings)
    worse = pairs.ids_where(lambda before, after: after < before)
    return RuleTest(sentence, _scores(pairs, test, gate) + note, test, lower_is_better=False, regressed=worse)


def _limit(sentence: str, rule: NotExceed, model: ModelSamples) -> RuleOutcome:
    value = measurement(rule, model)
    if value is None:
        return RuleOutcome(sentence, "undecided", "it was not measured")
    return RuleOutcome(sentence, "fail" if value > rule.limit else "pass", f"it is {amount(rule.metric, value)}")


def _margin(rule: Improve | Keep, pairs: Pairs, baseline: ModelSamples, repeats: Repeats) -> tuple[float, str]:
    """The margin of a rule's difference, and a note for its figures: on noise, or that nothing can be lost."""
    if isinstance(rule, Keep):
        low = pairs.shares and sum(pairs.before) <= rule.within * len(pairs.before)
        return -rule.within, f"; {baseline.name} has no more than that to lose, so this proves nothing" if low else ""
    repeated = [_noise(rule, baseline, samples) for samples in repeats.get(rule.suite, ())]
    if not repeated:
        return rule.by, "; noise floor not measured"
    floor, flipped = max(noise.floor for noise in repeated), max(noise.flipped for noise in repeated)
    role = ", which is the margin" if floor > rule.by else ""
    note = f"; noise floor {gap(floor, pairs.shares)}{role} ({formatting.percent(flipped)} of answers flip)"
    return max(rule.by, floor), note


def _noise(rule: Improve, baseline: ModelSamples, again: Sequence[Sample]) -> Noise:
    pairs = pair(rule, baseline, ModelSamples(f"{baseline.name}, evaluated again,", {rule.suite: again}, {}))
    return statistics.noise(pairs.before, pairs.after)


def _scores(pairs: Pairs, test: MarginTest, gate: Gate) -> str:
    """The figures of a difference of scores."""
    share = pairs.shares
    before, after = (formatting.score(sum(values) / len(values), share) for values in (pairs.before, pairs.after))
    low, high = (formatting.change(end, share) for end in (test.interval.low, test.interval.high))
    interval = f"{low} to {high}"
    change = f"{before} → {after}, {formatting.change(test.estimate, share)}{' points' if share else ''}"
    return f"{change} ({100 * gate.confidence:g}% interval {interval}) on {_prompts(pairs)}"


def _lengths(pairs: Pairs, test: MarginTest, gate: Gate) -> str:
    """The figures of a ratio of lengths."""
    before, after = (sum(values) / len(values) for values in (pairs.before, pairs.after))
    interval = f"{test.interval.low:.2f} to {test.interval.high:.2f}"
    change = f"{before:.1f} → {after:.1f} tokens an answer, {test.estimate:.2f} times"
    return f"{change} ({100 * gate.confidence:g}% interval {interval}) on {_prompts(pairs)}"


def _prompts(pairs: Pairs) -> str:
    left_out = f", {pairs.left_out} more not gradable" if pairs.left_out else ""
    return f"{formatting.count(len(pairs.ids))} prompts{left_out}"
