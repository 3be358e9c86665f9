"""What a verifier says of a completion."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["scored", "no_answer", "not_gradable"]


@dataclass(frozen=True)
class Verdict:
    """score: 0 (wrong) to 1 (right). answer: what was extracted, as text. reason: why, in words.

    status ``no_answer``: nothing could be extracted; it scores 0 and is counted on its own. ``not_gradable``: the
    grader failed, not the model; the sample leaves the mean and is counted aloud.
    """

    score: float
    answer: str | None
    reason: str
    status: Status = "scored"
