"""What a verifier says of a completion, and what a verifier is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

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


Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Verifier:
    """verify: the verdict on a completion that answers a row's prompt. needs: what it reads of the row; may: and what
    else, where the row has it.

    A row's ``reference`` may also be its own completion. A verifier that needs a reference gives it full marks.
    """

    verify: Callable[[str, Row], Verdict]
    needs: tuple[str, ...] = ("reference",)
    may: tuple[str, ...] = ()
