"""Params about models that stages and commands read without importing torch."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, PositiveInt, model_validator

from tunesmith.core.params import Section, WeightsKind

NAMES: dict[WeightsKind, str] = {"lora": "with LoRA", "qlora": "with QLoRA", "full": "of all weights"}
"""How people write each kind of weights, after the objective."""

Turns: TypeAlias = Literal["completion", "all"]
"""Which of the assistant's turns train: the last alone, or the earlier ones in the prompt too."""


Optimizer: TypeAlias = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "muon"]
"""The optimizers of trainings."""
Vision: TypeAlias = Literal["frozen", "projector", "all"]
"""What trains of the part that sees, in a base that reads images."""
Init: TypeAlias = Literal["default", "gaussian", "pissa", "olora", "orthogonal"]
"""The initial values of an adapter."""
FROM_WEIGHTS: tuple[Init, ...] = ("pissa", "olora")
"""Initial values that are taken out of the weights under the adapter, which a training holds without them."""


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021): the adapter that a training adds. A start with an adapter keeps its own."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    """The update is scaled by alpha / rank, or with `rslora` by alpha / √rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """In SFT; the other objectives train without dropout, as TRL does."""
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """The linear layers that it adapts: all but the output head, or those of these names, such as [q_proj, v_proj]."""
    rslora: bool = False
    """Whether the scale is alpha / √rank, which keeps updates of high ranks as large as those of low ones
    (Kalajdzievski 2023)."""
    dora: bool = False
    """Whether the magnitude of a layer's outputs is trained apart from their direction (Liu et al. 2024). It is slower,
    and must be merged for vLLM."""
    init: Init = "default"
    """The adapter's initial values: of Hu et al., where the update is zero (default; gaussian with normal values);
    random and orthogonal (orthogonal), also with an update of zero; the largest singular vectors of the weights (pissa;
    Meng et al. 2024) or the first columns of their QR decomposition (olora; Büyükakyüz 2024). Those of the weights are
    saved as an adapter of twice the rank, which works on the unchanged weights."""
    embeddings: bool = False
    """Whether the embedding and the output head train in full, as a base that never saw the chat template's tokens may
    need. They are saved with the adapter, which must be merged for vLLM."""

    @model_validator(mode="after")
    def _init_fits(self) -> Self:
        if self.init in FROM_WEIGHTS and self.dropout:
            raise ValueError(
                f"init: {self.init} moves weights into the adapter, of which dropout would drop parts: set dropout to 0"
            )
        if self.init == "orthogonal" and self.rank % 2:
            raise ValueError(f"init: orthogonal needs an even rank, not {self.rank}")
        return self

    def check_fits(self, weights: WeightsKind) -> None:
        """Raise ValueError where the adapter's initial values cannot be made of such weights."""
        if weights == "qlora" and self.init in (*FROM_WEIGHTS, "orthogonal"):
            reason = (
                "takes values out of weights that 4 bits cannot hold without them"
                if self.init in FROM_WEIGHTS
                else "is made in the dtype of the weights, which is none of 4 bits"
            )
            raise ValueError(f"lora.init: {self.init} {reason}: take weights: lora, or init: default or gaussian")
