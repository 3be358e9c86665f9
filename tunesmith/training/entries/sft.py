"""The entries `sft.<name>`."""

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.models.settings import Turns
from tunesmith.training.entries.common import Entry, default_rate


class Sft(Entry):
    """Packed supervised fine-tuning of the base, with the loss on the assistant's turns."""

    learning_rate: PositiveFloat = default_rate(full=2e-5, adapter=2e-4)
    """Peak learning rate; by default 2e-5 where all weights train, 2e-4 for an adapter."""

    epochs: PositiveInt = 1
    """Passes over the rows."""
    turns: Turns = "completion"
    """Which of the assistant's turns train: the last (completion), or also the earlier ones in the prompt (all). Where
    a template renders turns differently once the conversation goes on, all makes an example of each such turn."""
    max_length: PositiveInt = 1024
    """Tokens in a packed sequence; a longer row stops the training before it begins."""
    batch_size: PositiveInt = 2
    """Packed sequences a step."""
    probes: NonNegativeInt = 4
    """Held-out prompts answered before and after the training, to see that the answers changed."""
