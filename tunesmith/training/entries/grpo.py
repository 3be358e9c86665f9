"""The entries `grpo.<name>`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from tunesmith.training.entries.online import Online
from tunesmith.verifiers.names import RefusalBy, VerifierName

RewardWeights = dict[VerifierName, PositiveFloat]
"""Verifiers with their weights: a reward is the weighted sum of their scores."""


class Grpo(Online):
    """Group relative policy optimization (Shao et al. 2024) on the scores of verifiers."""

    rewards: Annotated[RewardWeights, Field(min_length=1)]
    """Verifiers with their weights, such as {number: 1.0}. Required."""
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo"] = "dapo"
    """The loss as TRL names it: how the tokens of answers of different lengths are weighed, and what is clipped."""
    delta: PositiveFloat | None = None
    """The bound of the ratio where the advantage is negative, which epsilon does not clip there (INTELLECT-2); null:
    none. Above 1 + epsilon_high, and with loss_type grpo, dr_grpo, bnpo or dapo."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whether each token has a ratio of its own, or an answer one for all (GSPO, Zheng et al. 2025)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """The standard deviation that advantages are divided by; none as in Dr. GRPO (Liu et al. 2025)."""
    refusal_by: RefusalBy | None = None
    """Who classifies refusals where `rewards` has refusal, and required there: judge (of params.yaml, first measured on
    labelled answers), or rules, in the knowledge that a policy learns to write what phrases pass, or none of them."""
    probe: Annotated[int, Field(ge=2)] = 4
    """Answers a prompt that the starting policy gives before training; prompts whose answers all score the same are
    left out, since they teach nothing."""

    @model_validator(mode="after")
    def _delta_bounds_what_is_clipped(self) -> "Grpo":
        if self.delta is None:
            return self
        if self.loss_type not in ("grpo", "dr_grpo", "bnpo", "dapo"):
            raise ValueError(f"delta is read by the losses grpo, dr_grpo, bnpo and dapo, not by {self.loss_type}")
        if self.delta <= 1 + (self.epsilon_high or self.epsilon):
            raise ValueError("delta must be above 1 + epsilon_high, or answers better than the others teach nothing")
        return self

    @model_validator(mode="after")
    def _refusals_are_backed(self) -> "Grpo":
        if ("refusal" in self.rewards) != (self.refusal_by is not None):
            raise ValueError(
                "the verifier refusal reads phrases, which a policy learns to write: with it in rewards, say "
                "refusal_by: judge (and name a judge), or refusal_by: rules to pay by phrases all the same; without "
                "it, leave refusal_by out"
            )
        return self
