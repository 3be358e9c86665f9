"""What a verifier says of a completion, and what a verifier is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

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


Columns: TypeAlias = Mapping[str, object]
"""A row to grade by: a ready row (`tunesmith.core.ready_rows.Row`), or any row with the columns that a verifier reads.

Nothing has checked the columns: they are JSON as a user wrote it. A column that cannot be read is not gradable.
"""


@dataclass(frozen=True)
class Verifier:
    """verify: the verdict on a completion that answers a row's prompt. needs: what it reads of the row; may: and what
    else, where the row has it.

    A row's ``reference`` may also be its own completion. A verifier that needs a reference gives it full marks.
    """

    verify: Callable[[str, Columns], Verdict]
    needs: tuple[str, ...] = ("reference",)
    may: tuple[str, ...] = ()
