"""Params about models that stages and commands read without importing torch."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveInt

from tunesmith.core.params import Section, WeightsKind

NAMES: dict[WeightsKind, str] = {"lora": "with LoRA", "qlora": "with QLoRA", "full": "of all weights"}
"""How people write each kind of weights, after the objective."""

Turns: TypeAlias = Literal["completion", "all"]
"""Which of the assistant's turns train: the last alone, or the earlier ones in the prompt too."""


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021) of every linear layer but the output head."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """In SFT; the other objectives train without dropout, as TRL does."""
