"""The entries `kto.<name>`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tunesmith.training.entries.common import Batched, Continued


class Kto(Continued, Batched):
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024) from answers marked good or bad, held to its start."""

    full_rate = 1e-6

    epochs: PositiveInt = 1
    """Passes over the answers."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    """The loss: KTO's (eq. 7), or APO-zero's for single answers (D'Oosterlinck et al. 2024), which estimates no KL."""
    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference policy."""
    desirable_weight: PositiveFloat | None = None
    """Weight of the loss of good answers; null: 1, or more where they are the rarer, so that both marks weigh the same
    in all (eq. 8)."""
    undesirable_weight: PositiveFloat | None = None
    """Weight of the loss of bad answers; null: likewise."""
    max_length: PositiveInt = 1024
    """Tokens of a prompt with its answer; a longer row stops the training before it begins."""
    batch_size: Annotated[int, Field(ge=2)] = 8
    """Answers that go through the model at once, over all processes; each is compared with the batch's others."""
