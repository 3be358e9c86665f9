"""Params that the entries of all objectives share."""

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.core.params import EntryName, Section
from tunesmith.models.settings import Lora, WeightsKind

LORA_FACTOR = 10
"""An adapter takes about ten times the learning rate of full fine-tuning (Schulman et al. 2025, "LoRA Without Regret")."""


class Entry(Section):
    """One training: one model of the pipeline, in the folder `models/<name>`."""

    FULL_RATE: ClassVar[float]
    """Default peak learning rate where all weights train: TRL 1.16's default for the objective."""

    dataset: str
    """The data set of `data` that it learns from. Required."""
    weights: WeightsKind = "lora"
    """Which weights train: an adapter (lora), an adapter on a 4-bit base (qlora), or all of them (full)."""
    lora: Lora = Lora()
    """The adapter, for lora and qlora."""
    learning_rate: PositiveFloat | None = None
    """Peak learning rate. null: TRL's default for the objective where all weights train, ten times that for an adapter."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the learning rate rises to its peak; it falls linearly afterwards."""
    batch_size: PositiveInt = 8
    """Examples that go through the model at once."""
    seed: NonNegativeInt = 20
    """Seed of everything random: the order of the rows, the adapter's initial values, dropout, sampled answers."""
    probes: NonNegativeInt = 16
    """Held-out prompts answered before and after the training, to see that the answers changed."""

    @property
    def rate(self) -> float:
        """The peak learning rate that applies."""
        return self.learning_rate or self.FULL_RATE * (1 if self.weights == "full" else LORA_FACTOR)

    @property
    def adapter(self) -> Lora | None:
        """The adapter that trains; None where all weights do."""
        return None if self.weights == "full" else self.lora


class Continued(Entry):
    """A training that goes on from another model, which is also the reference that it is held to."""

    start: EntryName
    """The model that is trained further: `base`, or the name of another entry. Required."""
