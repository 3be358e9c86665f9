"""The entries `reward.<name>`."""

from pydantic import NonNegativeInt, PositiveInt

from tunesmith.training.entries.common import Batched, Continued


class Reward(Continued, Batched):
    """A reward model from preference pairs (Bradley and Terry 1952), for an entry of `rlhf` to follow."""

    full_rate = 1e-5

    epochs: PositiveInt = 1
    """Passes over the pairs."""
    max_length: PositiveInt = 1024
    """Tokens of a prompt with its longer completion; a longer pair stops the training before it begins."""
    batch_size: PositiveInt = 8
    """Pairs that go through the model at once."""
    probes: NonNegativeInt = 0
    """A reward model writes no answers, so there is nothing to probe."""
