"""The entries `sft.<name>`."""

from typing import Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tunesmith.models.settings import Turns
from tunesmith.training.entries.common import Batched


class Sft(Batched):
    """Packed supervised fine-tuning of the base, with the loss on the assistant's turns."""

    full_rate = 2e-5

    epochs: PositiveInt = 1
    """Passes over the rows."""
    turns: Turns = "completion"
    """Which of the assistant's turns train: the last (completion), or also the earlier ones in the prompt (all). Where
    a template renders turns differently once the conversation goes on, all makes an example of each such turn."""
    max_length: PositiveInt = 1024
    """Tokens in a packed sequence; a longer row stops the training before it begins."""
    neftune: PositiveFloat | None = None
    """Strength of the uniform noise on the embeddings (alpha of Jain et al. 2023, who took 5); null: none."""
    compile: bool = False
    """Whether torch compiles the model: minutes at the start, then faster steps on a GPU. Losses differ by rounding."""
    float8: bool = False
    """Whether linear layers multiply in 8 bits (torchao, scaled by row): faster on a GPU that has such products (L4,
    L40S, RTX 40, H100) and together with `compile`, by rounding that the validation loss shows and that no score was
    measured with yet. Not with qlora, whose weights have 4."""
    batch_size: PositiveInt = 2
    """Packed sequences that go through the model at once, over all processes."""
    probes: NonNegativeInt = 4
    """Validation prompts answered before and after the training, to see that the answers changed."""

    @model_validator(mode="after")
    def _eight_bits_or_four(self) -> Self:
        if self.float8 and self.weights == "qlora":
            raise ValueError("float8 multiplies weights of 16 bits or more: leave it out, or take lora or full weights")
        if self.float8 and not self.compile:
            raise ValueError("float8 without compile is slower than 16 bits: set compile: true, too")
        return self
