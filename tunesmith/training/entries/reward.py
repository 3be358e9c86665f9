"""The entries `reward.<name>`."""

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.training.entries.common import Continued, default_rate


class Reward(Continued):
    """A reward model from preference pairs (Bradley and Terry 1952), for an entry of `rlhf` to follow."""

    learning_rate: PositiveFloat = default_rate(full=1e-5, adapter=1e-4)
    """Peak learning rate; by default 1e-5 where all weights train, 1e-4 for an adapter."""

    epochs: PositiveInt = 1
    """Passes over the pairs."""
    max_length: PositiveInt = 1024
    """Tokens of a prompt with its longer completion; a longer pair stops the training before it begins."""
    batch_size: PositiveInt = 8
    """Pairs a step."""
    probes: NonNegativeInt = 0
    """A reward model writes no answers, so there is nothing to probe."""
