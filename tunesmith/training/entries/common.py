"""Params that the entries of all objectives share."""

from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.core.params import EntryName, Section, WeightsKind
from tunesmith.models.settings import Lora


def default_rate(*, full: float, adapter: float) -> Any:
    """A default learning rate by the kind of weights that train.

    ``full`` is TRL 1.16's default for the objective; an adapter takes about ten times as much (Schulman 2025, LoRA
    Without Regret).
    """
    return Field(default_factory=lambda entry: full if entry.get("weights") == "full" else adapter)


def _one_name(value: object) -> object:
    """Return the name of a data set. Raises ValueError for a list of data sets, with the edit that makes a mixture."""
    if isinstance(value, list):
        parts = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()
        raise ValueError(
            "a list of data sets is an entry of `mixtures`, since DVC follows names alone: write "
            f"mixtures: {{mixed: {{datasets: {parts}}}}} and dataset: mixed"
        )
    return value


class Entry(Section):
    """One training: one model of the pipeline, in the folder `models/<name>`."""

    dataset: Annotated[str, BeforeValidator(_one_name)]
    """The data set of `data` that it learns from, or the mixture of `mixtures`. Required."""
    weights: WeightsKind = "lora"
    """Which weights train: an adapter (lora), an adapter on a 4-bit base (qlora), or all of them (full)."""
    lora: Lora = Lora()
    """The adapter, for lora and qlora."""
    learning_rate: PositiveFloat
    """Peak learning rate; by default that of `default_rate` for the objective."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the learning rate rises to its peak; it falls linearly afterwards."""
    batch_size: PositiveInt = 8
    """Examples that go through the model at once."""
    seed: NonNegativeInt = 20
    """Seed of everything random: the order of the rows, the adapter's initial values, dropout, sampled answers."""
    probes: NonNegativeInt = 16
    """Held-out prompts answered before and after the training, to see that the answers changed."""

    @property
    def adapter(self) -> Lora | None:
        """The adapter that trains; None where all weights do."""
        return None if self.weights == "full" else self.lora


class Continued(Entry):
    """A training that goes on from another model, which is also the reference that it is held to."""

    start: EntryName
    """The model that is trained further: `base`, or the name of another entry. Required."""
