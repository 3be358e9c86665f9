"""The entries `sft.<name>`."""

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

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
    batch_size: PositiveInt = 2
    """Packed sequences that go through the model at once."""
    probes: NonNegativeInt = 4
    """Validation prompts answered before and after the training, to see that the answers changed."""
