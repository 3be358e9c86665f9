"""The entries `dpo.<name>`."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from tunesmith.training.entries.common import Batched, Continued

Loss: TypeAlias = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
"""Losses that read `label_smoothing`."""


def _weighted(losses: Any) -> Any:
    """Losses with their weights: one alone, or each of a list, weighs 1."""
    names = [losses] if isinstance(losses, str) else losses
    return dict.fromkeys(names, 1.0) if isinstance(names, list) else losses


class Dpo(Continued, Batched):
    """Direct preference optimization (Rafailov et al. 2023) from pairs, held to the model it starts from."""

    full_rate = 1e-6

    epochs: PositiveInt = 1
    """Passes over the pairs."""
    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference policy (eq. 7)."""
    loss_type: Annotated[dict[Loss, PositiveFloat], BeforeValidator(_weighted), Field(min_length=1)] = Field(
        default="sigmoid", validate_default=True
    )
    """The loss as TRL names it, or several with their weights, such as {sigmoid: 1.0, sft: 0.2}."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of the pairs that may be labelled the wrong way round; read by robust, exo_pair, aot and aot_unpaired."""
    max_length: PositiveInt = 1024
    """Tokens of a prompt with its longer completion; a longer pair stops the training before it begins."""
    batch_size: PositiveInt = 8
    """Pairs that go through the model at once."""

    @model_validator(mode="after")
    def _smoothing_is_read(self) -> "Dpo":
        if self.label_smoothing and not {*self.loss_type} & {*SMOOTHED}:
            raise ValueError(f"label_smoothing is read by the losses {', '.join(SMOOTHED)} alone")
        if "exo_pair" in self.loss_type and not self.label_smoothing:
            raise ValueError("the loss exo_pair needs a label_smoothing above 0, such as 1e-3")
        return self
