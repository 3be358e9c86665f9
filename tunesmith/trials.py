"""One rule of the gate, tried on two models' answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith import margins, statistics, words
from tunesmith.evidence import Contender, Pairs, measured, pair
from tunesmith.margins import Tested
from tunesmith.rules import Gate, Improve, Keep, NotExceed, NotGrow, Rule, amount, points
from tunesmith.samples import Sample
from tunesmith.statistics import Noise

Outcome = Literal["pass", "fail", "undecided"]
Repeats = Mapping[str, Sequence[Sequence[Sample]]]
"""By suite: the baseline's further evaluations, as they were and at other batch sizes."""


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
    told = f"noise floor {points(floor)}{role} ({words.percent(flipped)} of answers flip)"
    return max(rule.by, floor), f"; {told}"


def _noise(rule: Improve, baseline: Contender, again: Sequence[Sample]) -> Noise:
    pairs = pair(rule, baseline, Contender(f"{baseline.name}, evaluated again,", {rule.suite: again}, {}))
    return statistics.noise(pairs.before, pairs.after)


def _shares(pairs: Pairs, tested: Tested, gate: Gate) -> str:
    before, after = (sum(values) / len(values) for values in (pairs.before, pairs.after))
    interval = f"{words.points(tested.interval.low)} to {words.points(tested.interval.high)}"
    change = f"{words.percent(before)} → {words.percent(after)}, {words.points(tested.estimate)} points"
    return f"{change} ({100 * gate.confidence:g}% interval {interval}) on {_prompts(pairs)}"


def _lengths(pairs: Pairs, tested: Tested, gate: Gate) -> str:
    before, after = (sum(values) / len(values) for values in (pairs.before, pairs.after))
    interval = f"{tested.interval.low:.2f} to {tested.interval.high:.2f}"
    change = f"{before:.1f} → {after:.1f} tokens an answer, {tested.estimate:.2f} times"
    return f"{change} ({100 * gate.confidence:g}% interval {interval}) on {_prompts(pairs)}"


def _prompts(pairs: Pairs) -> str:
    left_out = f", {pairs.left_out} more not gradable" if pairs.left_out else ""
    return f"{words.count(len(pairs.ids))} prompts{left_out}"
