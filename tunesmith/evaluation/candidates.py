"""The candidates that stood for a model before it was compared: the trials of sweeps over its params.

Trials are compared on the validation split, so a model that meets the test split first needs no correction for them.
One whose predecessors met it too, each applied in turn, is the best of several there: its p-values are multiplied by
their number (Bonferroni).
"""

from typing import Literal

from pydantic import Field, PositiveInt

from tunesmith.core.params import Section


class Swept(Section):
    """A training whose params sweeps chose. `tunesmith sweep --apply` writes it."""

    by: Literal["loss", "accuracy", "score"]
    """The measurement on the validation split that chose."""
    tried: dict[str, PositiveInt] = Field(default_factory=dict)
    """The number of trials of each sweep."""
    applied: tuple[str, ...] = ()
    """The trials whose params stood in params.yaml, the present at the end: candidates that met the test split."""

    @property
    def candidates(self) -> int:
        """The number of candidates that met the test split, at least 1."""
        return max(1, len(self.applied))


def adjusted(p_value: float, candidates: int) -> float:
    """A p-value after Bonferroni's correction."""
    return min(1.0, p_value * candidates)
