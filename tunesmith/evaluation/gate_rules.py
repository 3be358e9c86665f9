"""The rules of `params.yaml: gate`, each with the sentence that states it."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from tunesmith.core import formatting
from tunesmith.core.params import Section

METRICS = {"score": "the score", "well_formed": "the share in the trained format", "stopped": "the share that stops"}
"""Metrics of answers, with the name that a sentence uses; more is better in each."""
Metric = Literal["score", "well_formed", "stopped"]


class AnswerRule(Section):
    """A rule about the answers to the prompts of a suite."""

    suite: str
    where: dict[str, str | bool | int] | None = None
    """Columns and values that select the suite's prompts, as in {label: unsafe}; all of them where it is left out."""

    @property
    def place(self) -> str:
        """The suite and the selection of its prompts, in words."""
        only = ", ".join(f"{key} {value}" for key, value in (self.where or {}).items())
        return f"{self.suite} ({only})" if only else self.suite


class Improve(AnswerRule):
    must: Literal["improve"]
    metric: Metric
    by: NonNegativeFloat
    """Gain on the baseline that must be exceeded, as a share, or in the unit of a score that is none; or the baseline's
    noise floor, where that is higher."""

    @property
    def margin(self) -> float:
        return self.by

    def describe(self, baseline: str, share: bool = True) -> str:
        gain = f"by at least {gap(self.by, share)}" if self.by else f"on {baseline}'s"
        return f"{METRICS[self.metric]} on {self.place} must improve {gain}"


class Keep(AnswerRule):
    must: Literal["keep"]
    metric: Metric
    within: PositiveFloat
    """Largest loss against the baseline, as a share, or in the unit of a score that is none. Above 0: a test can show a
    loss to be small, but not absent."""

    @property
    def margin(self) -> float:
        return self.within

    def describe(self, baseline: str, share: bool = True) -> str:
        return f"{METRICS[self.metric]} on {self.place} must stay within {gap(self.within, share)} of {baseline}'s"


class NotGrow(AnswerRule):
    must: Literal["not_grow"]
    metric: Literal["tokens"]
    beyond: PositiveFloat
    """Largest ratio of the mean tokens per answer to the baseline's."""

    def describe(self, baseline: str, share: bool = True) -> str:
        return f"answers to {self.place} must not grow beyond {self.beyond:g} times {baseline}'s tokens"


class NotExceed(Section):
    """A limit on a measurement of the model itself."""

    must: Literal["not_exceed"]
    metric: Literal["training_seconds", "peak_memory_bytes", "weights_bytes", "evaluation_seconds"]
    """Seconds of the training and of every one that it builds on; peak memory of its own training; bytes of the stored
    weights; seconds of the evaluation on all suites."""
    limit: PositiveFloat
    """Largest value, in the unit that the metric's name ends in."""

    def describe(self, baseline: str, share: bool = True) -> str:
        return f"{self.metric} must not exceed {amount(self.metric, self.limit)}"


Rule: TypeAlias = Annotated[Improve | Keep | NotGrow | NotExceed, Field(discriminator="must")]


class Gate(Section):
    against: str = "base"
    """The baseline: `base`, `start` (the model's own), or the name of another model that is compared."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Confidence level of every interval. Each one-sided test runs at (1 - confidence) / 2."""
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    """Probability that the reported number of further prompts would decide."""
    resamples: Annotated[int, Field(ge=1000)] = 10_000
    """Bootstrap resamples. The smallest possible two-sided p-value is 2 / resamples; with many rules it must survive
    Holm's correction."""
    seed: NonNegativeInt = 0
    max_not_gradable: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest share of a rule's prompts that may be not gradable; above it, the others do not represent them."""
    rules: tuple[Rule, ...] = ()
    """Rules that every model must keep; left out, the score on the first suite must improve on the baseline's."""


def gap(difference: float, share: bool) -> str:
    """The size of a difference: of shares in percentage points, else in the unit of the score."""
    return f"{100 * difference:.3g} points" if share else f"{difference:.3g}"


def amount(metric: str, value: float) -> str:
    """A measurement, in the unit that its metric's name ends in."""
    if metric.endswith("seconds"):
        return formatting.seconds(value)
    return formatting.size(value) if metric.endswith("bytes") else f"{value:,g}"
