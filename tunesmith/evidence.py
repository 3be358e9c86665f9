"""What a rule looks at: the samples of two models on the same prompts, prompt by prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.errors import EvaluationError
from tunesmith.rules import Improve, Keep, NotExceed, NotGrow
from tunesmith.samples import Sample


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
