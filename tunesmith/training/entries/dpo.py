"""The entries `dpo.<name>`."""

from pydantic import PositiveFloat, PositiveInt

from tunesmith.training.entries.common import Continued, default_rate


class Dpo(Continued):
    """Direct preference optimization (Rafailov et al. 2023) from pairs, held to the model it starts from."""

    learning_rate: PositiveFloat = default_rate(full=1e-6, adapter=1e-5)
    """Peak learning rate; by default 1e-6 where all weights train, 1e-5 for an adapter."""

    epochs: PositiveInt = 1
    """Passes over the pairs."""
    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference policy (eq. 7)."""
    max_length: PositiveInt = 1024
    """Tokens of a prompt with its longer completion; a longer pair stops the training before it begins."""
    batch_size: PositiveInt = 8
    """Pairs a step."""
