"""One rule of the gate, tried on two models' answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.core import formatting, statistics
from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.core.statistics import Noise
from tunesmith.evaluation import margins
from tunesmith.evaluation.gate_rules import Gate, Improve, Keep, NotExceed, NotGrow, Rule, amount, points
from tunesmith.evaluation.margins import Tested

Outcome = Literal["pass", "fail", "undecided"]
Repeats = Mapping[str, Sequence[Sequence[Sample]]]
"""By suite: the baseline's further evaluations, as they were and at other batch sizes."""


@dataclass(frozen=True)
class Contender:
    """A model as the gate sees it. samples: by suite, with the fields of their rows. measured: such as seconds; None
    where it was not."""

    name: str
    samples: Mapping[str, Sequence[Sample]]
    measured: Mapping[str, float | None]


@dataclass(frozen=True)
class Pairs:
    """Of the prompts that a rule is about, by id: its metric before and after.

    left_out: prompts that could not be graded in either. same: whether every answer is the same, to the letter, and its
    score (all there is where nothing was generated).
    """

    ids: list[str]
    before: list[float]
    after: list[float]
    left_out: int
    same: bool

    @property
    def prompts(self) -> int:
        return self.left_out + len(self.ids)

    def which(self, regressed: Callable[[float, float], bool]) -> tuple[str, ...]:
        """Ids of the prompts for which it holds, given the metric before and after."""
        both = zip(self.ids, self.before, self.after, strict=True)
        return tuple(key for key, before, after in both if regressed(before, after))


def pair(rule: Improve | Keep | NotGrow, baseline: Contender, challenger: Contender) -> Pairs:
    """Raises EvaluationError where the rule is about no prompt, the metric is not known, or the prompts differ."""
    before, after = select(rule, baseline), select(rule, challenger)
    if before.keys() != after.keys():
        raise EvaluationError(
            f"{challenger.name} and {baseline.name} did not answer the same prompts of {rule.place}: "
            f"{len(before.keys() ^ after.keys())} have one answer",
            fix="evaluate both again with `dvc repro`",
        )
    ids = sorted(before)  # a decision does not depend on the order of rows
    graded = [key for key in ids if rule.metric != "score" or _gradable(before[key], after[key])]
    return Pairs(
        graded,
        [float(before[key][rule.metric]) for key in graded],
        [float(after[key][rule.metric]) for key in graded],
        len(ids) - len(graded),
        all(
            before[key]["tokens"] is not None and before[key][told] == after[key][told]
            for key in ids
            for told in ("completion", "score")
        ),
    )


def _gradable(*samples: Sample) -> bool:
    return all(sample["status"] != "not_gradable" for sample in samples)


def select(rule: Improve | Keep | NotGrow, model: Contender) -> dict[str, Sample]:
    """The samples that a rule is about, by id."""
    if rule.suite not in model.samples:
        known = ", ".join(model.samples)
        raise _unusable(rule, f"{model.name} answered no suite {rule.suite!r}, only {known}", "name one of these")
    suite, only = model.samples[rule.suite], rule.where or {}
    chosen = [sample for sample in suite if all(sample.get(key) == value for key, value in only.items())]
    if not chosen:
        values = {key: sorted({str(sample.get(key)) for sample in suite}) for key in only}
        there = "; ".join(f"{key} is {', '.join(seen[:5])}" for key, seen in values.items() if seen)
        raise _unusable(rule, f"no sample of {rule.suite} is so: {there or 'there is none'}", "correct its `where`")
    if any(sample.get(rule.metric) is None for sample in chosen):
        fix = "give the suite an answer_format for well_formed; where nothing is generated, ask for the score alone"
        raise _unusable(rule, f"samples of {model.name} have no {rule.metric}", fix)
    by_id = {str(sample["id"]): sample for sample in chosen}
    if len(by_id) < len(chosen):
        raise _unusable(rule, f"{len(chosen) - len(by_id)} prompts of {rule.suite} share an id", "give each its own")
    return by_id


def measured(rule: NotExceed, model: Contender) -> float | None:
    if rule.metric not in model.measured:
        known = ", ".join(model.measured)
        raise _unusable(rule, f"of {model.name} there is {known or 'nothing'} measured", "name one of these")
    return model.measured[rule.metric]


def _unusable(rule: Improve | Keep | NotGrow | NotExceed, reason: str, fix: str) -> EvaluationError:
    return EvaluationError(f"params.yaml: gate.rules: {rule.say('the baseline')!r}: {reason}", fix=fix)


@dataclass(frozen=True)
class RuleOutcome:
    """p_kept, p_broken: two-sided, the latter after Holm; None for what is not tested. regressed: ids of prompts.

    needed: how many more prompts would probably decide; None where it is decided, and where margins.MOST would not.
    """

    rule: str
    outcome: Outcome
    reason: str
    p_kept: float | None = None
    p_broken: float | None = None
    regressed: tuple[str, ...] = ()
    needed: int | None = None


@dataclass(frozen=True)
class Trial:
    """A rule's test, before it is known what the others say. figures: what was seen, in words."""

    rule: str
    figures: str
    tested: Tested
    less_is_kept: bool
    regressed: tuple[str, ...]

    @property
    def p_kept(self) -> float:
        return min(1.0, 2 * (self.tested.p_below if self.less_is_kept else self.tested.p_above))

    @property
    def p_broken(self) -> float:
        return min(1.0, 2 * (self.tested.p_above if self.less_is_kept else self.tested.p_below))


def attempt(
    rule: Rule, gate: Gate, baseline: Contender, challenger: Contender, repeats: Repeats
) -> Trial | RuleOutcome:
    """A test, or the outcome where none is needed or none is fair."""
    said = rule.say(baseline.name)
    if isinstance(rule, NotExceed):
        return _limit(said, rule, challenger)
    pairs = pair(rule, baseline, challenger)
    if not pairs.ids or pairs.left_out > gate.max_not_gradable * pairs.prompts:
        left_out = f"{pairs.left_out} of {pairs.prompts} prompts could not be graded"
        return RuleOutcome(said, "undecided", f"{left_out}: the others do not speak for them")
    if isinstance(rule, Improve) and pairs.same:
        return RuleOutcome(said, "fail", f"none of {pairs.prompts} answers differs from {baseline.name}'s")
    how = gate.model_dump(include={"confidence", "resamples", "seed"})
    if isinstance(rule, NotGrow):
        tested = margins.ratio_against(pairs.before, pairs.after, rule.beyond, **how)
        longer = pairs.which(lambda before, after: after > rule.beyond * before)
        return Trial(said, _lengths(pairs, tested, gate), tested, less_is_kept=True, regressed=longer)
    margin, note = _margin(rule, baseline, repeats)
    tested = margins.against_margin(pairs.before, pairs.after, margin, **how)
    worse = pairs.which(lambda before, after: after < before)
    return Trial(said, _shares(pairs, tested, gate) + note, tested, less_is_kept=False, regressed=worse)


def _limit(said: str, rule: NotExceed, model: Contender) -> RuleOutcome:
    value = measured(rule, model)
    if value is None:
        return RuleOutcome(said, "undecided", "it was not measured")
    return RuleOutcome(said, "fail" if value > rule.limit else "pass", f"it is {amount(rule.metric, value)}")


def _margin(rule: Improve | Keep, baseline: Contender, repeats: Repeats) -> tuple[float, str]:
    """What the difference must exceed, and what the noise floor has to do with it."""
    if isinstance(rule, Keep):
        return -rule.within, ""
    found = [_noise(rule, baseline, samples) for samples in repeats.get(rule.suite, ())]
    if not found:
        return rule.by, "; noise floor not measured"
    floor, flipped = max(noise.floor for noise in found), max(noise.flipped for noise in found)
    role = ", which is the margin" if floor > rule.by else ""
    told = f"noise floor {points(floor)}{role} ({formatting.percent(flipped)} of answers flip)"
    return max(rule.by, floor), f"; {told}"


def _noise(rule: Improve, baseline: Contender, again: Sequence[Sample]) -> Noise:
    pairs = pair(rule, baseline, Contender(f"{baseline.name}, evaluated again,", {rule.suite: again}, {}))
    return statistics.noise(pairs.before, pairs.after)


def _shares(pairs: Pairs, tested: Tested, gate: Gate) -> str:
    before, after = (sum(values) / len(values) for values in (pairs.before, pairs.after))
    interval = f"{formatting.points(tested.interval.low)} to {formatting.points(tested.interval.high)}"
    change = f"{formatting.percent(before)} → {formatting.percent(after)}, {formatting.points(tested.estimate)} points"
    return f"{change} ({100 * gate.confidence:g}% interval {interval}) on {_prompts(pairs)}"


def _lengths(pairs: Pairs, tested: Tested, gate: Gate) -> str:
    before, after = (sum(values) / len(values) for values in (pairs.before, pairs.after))
    interval = f"{tested.interval.low:.2f} to {tested.interval.high:.2f}"
    change = f"{before:.1f} → {after:.1f} tokens an answer, {tested.estimate:.2f} times"
    return f"{change} ({100 * gate.confidence:g}% interval {interval}) on {_prompts(pairs)}"


def _prompts(pairs: Pairs) -> str:
    left_out = f", {pairs.left_out} more not gradable" if pairs.left_out else ""
    return f"{formatting.count(len(pairs.ids))} prompts{left_out}"
