"""What `params.yaml: gate` may ask of a model, and how a person would say it."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat

from tunesmith.core import formatting
from tunesmith.core.params import Section

METRICS = {"score": "the score", "well_formed": "the share in the trained format", "stopped": "the share that stops"}
"""Of answers; more is better in each."""
Metric = Literal["score", "well_formed", "stopped"]
Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class OfAnswers(Section):
    """A rule about the answers to the prompts of a suite."""

    suite: str
    where: dict[str, str | bool | int] | None = None
    """Only prompts whose row says so, as in {label: unsafe}; without it, all. It is left out and not null, as a rule
    is one line that is read aloud."""

    @property
    def place(self) -> str:
        """The suite, and which prompts of it."""
        only = ", ".join(f"{key} {value}" for key, value in (self.where or {}).items())
        return f"{self.suite} ({only})" if only else self.suite


class Improve(OfAnswers):
    must: Literal["improve"]
    metric: Metric
    by: Annotated[float, Field(ge=0, lt=1)]
    """Share; at least so much more than the baseline, or than its noise floor where that is higher."""

    def say(self, baseline: str) -> str:
        much = f"by at least {points(self.by)}" if self.by else f"on {baseline}'s"
        return f"{METRICS[self.metric]} on {self.place} must improve {much}"


class Keep(OfAnswers):
    must: Literal["keep"]
    metric: Metric
    within: Share
    """Share; at most so much less than the baseline. Not 0: that little is lost can be shown, not that nothing is."""

    def say(self, baseline: str) -> str:
        return f"{METRICS[self.metric]} on {self.place} must stay within {points(self.within)} of {baseline}'s"


class NotGrow(OfAnswers):
    must: Literal["not_grow"]
    metric: Literal["tokens"]
    beyond: PositiveFloat
    """Times the baseline's mean tokens an answer."""

    def say(self, baseline: str) -> str:
        return f"answers to {self.place} must not grow beyond {self.beyond:g} times {baseline}'s tokens"


class NotExceed(Section):
    """A limit on what was measured of the model itself."""

    must: Literal["not_exceed"]
    metric: Literal["training_seconds", "peak_memory_bytes", "weights_bytes", "evaluation_seconds"]
    """Of the whole training, what it was built on included; of that itself; of what is stored; of all suites."""
    limit: PositiveFloat

    def say(self, baseline: str) -> str:
        return f"{self.metric} must not exceed {amount(self.metric, self.limit)}"


Rule: TypeAlias = Annotated[Improve | Keep | NotGrow | NotExceed, Field(discriminator="must")]


class Gate(Section):
    against: str = "base"
    """The baseline: `base`, `start` (the model's own), or the name of another model that is compared."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Coverage of every interval; half of what is left is each rule's chance to be wrongly found kept."""
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    """With which the prompts that are said to decide would."""
    resamples: Annotated[int, Field(ge=1000)] = 10_000
    """Of the bootstrap; no p-value falls below 2 in as many, and of many rules one must be found broken after Holm."""
    seed: NonNegativeInt = 0
    max_not_gradable: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of a rule's prompts; with more, what is left no longer speaks for them."""
    rules: list[Rule] = []
    """Left out: the score on the first suite must improve on the baseline's."""


def points(share: float) -> str:
    """An amount of percentage points."""
    return f"{100 * share:.3g} points"


def amount(metric: str, value: float) -> str:
    """What was measured, in the unit that its name ends in."""
    if metric.endswith("seconds"):
        return formatting.seconds(value)
    return formatting.size(value) if metric.endswith("bytes") else f"{value:,g}"
