"""What is measured of a model on held-out rows: likelihood of right answers, preference, a verifier's score."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from tunesmith.core import statistics


@dataclass(frozen=True)
class RightAnswers:
    """What a model makes of right answers. ends: whether it would end its turn after each. surprise: of a token, in
    nats, on average.
    """

    ends: list[bool]
    surprise: float

    @property
    def numbers(self) -> dict[str, float]:
        return {"loss": self.surprise}

    @property
    def error(self) -> float:
        return self.surprise


@dataclass(frozen=True)
class Preference:
    """The preference of a model for the chosen completions of held-out pairs.

    pairs: their number. accuracy: the share, 0 to 1, of pairs whose chosen completion is preferred, a tie counting
    half; low, high: its 95% interval. margin: mean difference of the rewards. loss: the surprise, in nats, at a pair's
    label where the reward's margin is its log-odds (Bradley and Terry 1952), on average. likelier: the share of pairs
    whose chosen completion the policy finds likelier, whatever its reference does; None for a reward model. surprise:
    of a token of the chosen completions, in nats, on average; None for a reward model.
    """

    pairs: int
    accuracy: float
    low: float
    high: float
    margin: float
    loss: float
    likelier: float | None = None
    surprise: float | None = None

    @property
    def numbers(self) -> dict[str, float]:
        return {"loss": self.loss, "accuracy": self.accuracy, "margin": self.margin}

    @property
    def error(self) -> float:
        return self.loss


@dataclass(frozen=True)
class Graded:
    """The mean reward of a policy's greedy answers: a verifier's score, or a reward model's. score: not a number where
    no answer could be graded. ungraded: the number of answers that could not.
    """

    score: float
    ungraded: int = 0

    @property
    def numbers(self) -> dict[str, float]:
        return {"score": self.score} | ({"ungraded": self.ungraded} if self.ungraded else {})

    @property
    def error(self) -> float:
        return -self.score


Measurement = RightAnswers | Preference | Graded
"""Each has `numbers`, the quantities of its validation curve, and `error`: the step with the lowest is the best."""


def load(fields: dict[str, Any]) -> Measurement:
    """The measurement with these fields."""
    if "pairs" in fields:
        return Preference(**fields)
    return RightAnswers(**fields) if "ends" in fields else Graded(**fields)


def preference(
    chosen: Sequence[float],
    rejected: Sequence[float],
    *,
    likelier: float | None = None,
    surprise: float | None = None,
) -> Preference:
    """The preference from the rewards of both completions of every pair. Raises EvaluationError without pairs."""
    margins = [better - worse for better, worse in zip(chosen, rejected, strict=True)]
    preferred = [1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins]
    interval = statistics.mean_interval(preferred, confidence=0.95, resamples=2000, seed=0)
    return Preference(
        len(margins),
        fmean(preferred),
        **asdict(interval),
        margin=fmean(margins),
        loss=_loss(np.array(margins)),
        likelier=likelier,
        surprise=surprise,
    )


def separation(good: Sequence[float], bad: Sequence[float], *, surprise: float | None = None) -> Preference:
    """The preference over every pair of a good and a bad answer, of which no two need to share a prompt.

    Its accuracy is the area under the ROC curve. The interval is that of as many independent pairs as there are answers
    of the rarer mark: the variance is at most theirs (van Dantzig 1951). Raises EvaluationError where a mark is absent.
    """
    margins = np.subtract.outer(good, bad)
    accuracy = float(np.sign(margins).mean() + 1) / 2
    independent = min(len(good), len(bad))
    right = round(accuracy * independent)
    interval = statistics.mean_interval(
        [1.0] * right + [0.0] * (independent - right), confidence=0.95, resamples=0, seed=0
    )
    return Preference(
        margins.size,
        accuracy,
        **asdict(interval),
        margin=float(margins.mean()),
        loss=_loss(margins),
        surprise=surprise,
    )


def _loss(margins: np.ndarray) -> float:
    return float(np.logaddexp(0, -margins).mean())
