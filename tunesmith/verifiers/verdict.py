"""The verdict on a completion, and the interface of a verifier."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Status = Literal["scored", "no_answer", "not_gradable"]
"""``no_answer``: no answer could be extracted; the sample scores 0 and is counted separately. ``not_gradable``: the
grader failed, not the model; the sample is left out of the mean and reported."""

Columns: TypeAlias = Mapping[str, object]
"""A row to grade by: a ready row (`tunesmith.core.ready_rows.Row`), or any row with the columns that a verifier reads.

Nothing has checked the columns: they are JSON as a user wrote it. A column that cannot be read is not gradable.
"""


@dataclass(frozen=True)
class Verdict:
    """The score of a completion, with the answer that was extracted and the reason."""

    score: float
    """The score, from 0 (wrong) to 1 (right)."""
    answer: str | None
    """The answer as it was extracted from the completion; None where there is none."""
    reason: str
    """The reason for the score, in words."""
    status: Status = "scored"


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Verifier:
    """A verifier and the columns of a row that it reads."""

    verify: Callable[[str, Columns], Verdict]
    """Grades a completion by the row whose prompt it answers."""
    needs: tuple[str, ...] = ("reference",)
    """Columns that a row must have. A verifier that needs a ``reference``, for which the row's own completion may stand
    in, gives the reference itself full marks."""
    gold: Callable[[Columns], str] | None = None
    """Writes a right answer to a row whose reference is not the text of one; None where it is."""
    optional: tuple[str, ...] = ()
    """Columns that are read where a row has them."""
    unbounded: bool = False
    """Whether nothing bounds the time or the memory of a verdict, so that a process that can be killed gives it."""
    prepare: Callable[[], None] = _nothing
    """Imports what takes long, before the time of a first verdict is measured."""
