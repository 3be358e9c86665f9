"""The entries `grpo.<name>`."""

from typing import Annotated

from pydantic import Field, PositiveFloat

from tunesmith.training.entries.online import Online
from tunesmith.verifiers.names import VerifierName

RewardWeights = dict[VerifierName, PositiveFloat]
"""Verifiers with their weights: a reward is the weighted sum of their scores."""


class Grpo(Online):
    """Group relative policy optimization (Shao et al. 2024) on the scores of verifiers."""

    rewards: Annotated[RewardWeights, Field(min_length=1)]
    """Verifiers with their weights, such as {number: 1.0}. Required."""
    probe: Annotated[int, Field(ge=2)] = 4
    """Answers a prompt that the starting policy gives before training; prompts whose answers all score the same are
    left out, since they teach nothing."""
