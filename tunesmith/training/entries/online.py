"""Params that RLHF and GRPO share: the policy answers its own prompts, several times each."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from tunesmith.core.params import Section, WeightsKind
from tunesmith.training.entries.common import Continued

NOT_ON_VLLM: dict[WeightsKind, str] = {
    "full": "rollouts.engine: vllm gets an adapter at each step, and weights: full trains none; set weights to lora, "
    "or rollouts.engine to transformers",
    "qlora": "rollouts.engine: vllm has the base as it is, and weights: qlora trains on the base in 4 bits, which "
    "gives other probabilities; set weights to lora, or rollouts.engine to transformers",
}
"""The weights whose training vLLM cannot write completions for, each with the reason and the fix."""


class RolloutSettings(Section):
    """The engine that writes the completions of RLHF and GRPO."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """Writes the completions: transformers in the training's own process, or vLLM (section `engine`), which gets the
    adapter of each step. vllm takes weights: lora."""
    gpus: Literal["shared", "apart"] = "shared"
    """Whether vLLM and the training take turns on one GPU (shared), or vLLM has the last visible one of two (apart)."""
    max_ratio: Annotated[float, Field(ge=1)] = 2.0
    """The bound to which the ratio of the training's probability of a completion's token to vLLM's is cut; the loss is
    multiplied by it, since vLLM draws by slightly different probabilities (truncated importance sampling)."""
    max_drift: PositiveFloat = 0.1
    """Nats a token: the mean difference between vLLM's log-probabilities of the completions and the training's, above
    which, in three rollouts one after another, the training stops."""


class Online(Continued):
    """Training on rollouts: a step scores ``prompts`` times ``group`` completions that the policy itself wrote."""

    full_rate = 1e-6

    steps: PositiveInt = 100
    """Optimizer steps."""
    prompts: PositiveInt = 8
    """Prompts a step."""
    group: Annotated[int, Field(ge=2)] = 8
    """Completions a prompt, which are judged against each other."""
    batch_size: PositiveInt = 8
    """Completions that go through the model at once; must divide prompts × group."""
    max_prompt_length: PositiveInt = 512
    """Tokens; a longer prompt stops the training before it begins."""
    max_new_tokens: PositiveInt = 256
    """Tokens of a completion, at most."""
    num_iterations: PositiveInt = 1
    """Optimizer steps on the same completions; from the second on, the policy is no longer the one that wrote them, and
    epsilon bounds how far it goes. Must divide steps."""
    epsilon: PositiveFloat = 0.2
    """The distance below 1 to which the ratio of probabilities to those at sampling is clipped."""
    epsilon_high: PositiveFloat | None = None
    """The distance above 1; null: epsilon. DAPO (Yu et al. 2025) takes 0.28."""
    mask_truncated_completions: bool = False
    """Whether completions that max_new_tokens cut off are left out of the loss."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature of the completions."""
    beta: NonNegativeFloat = 0.0
    """Weight of the KL divergence to the reference policy; 0 computes none and keeps no reference in memory."""
    max_kl: PositiveFloat | None = None
    """Nats a token, above which the training stops. Required where beta is above 0, null where it is 0."""

    rollouts: RolloutSettings = RolloutSettings()
    """The engine that writes the completions."""

    @property
    def examples_a_step(self) -> int:
        """The completions of a step."""
        return self.prompts * self.group

    @model_validator(mode="after")
    def _engine_takes_the_weights(self) -> "Online":
        if self.rollouts.engine == "vllm" and self.weights in NOT_ON_VLLM:
            raise ValueError(NOT_ON_VLLM[self.weights])
        return self

    @model_validator(mode="after")
    def _batches_fill_a_step(self) -> "Online":
        if self.prompts * self.group % self.batch_size:
            raise ValueError(f"batch_size must divide prompts x group ({self.prompts} x {self.group})")
        return self

    @model_validator(mode="after")
    def _iterations_fill_the_steps(self) -> "Online":
        if self.steps % self.num_iterations:
            raise ValueError(f"num_iterations must divide steps ({self.steps})")
        return self

    @model_validator(mode="after")
    def _a_bound_needs_the_kl(self) -> "Online":
        if (self.beta == 0) != (self.max_kl is None):
            raise ValueError("max_kl bounds the KL that beta weighs: a number with beta over 0, null with beta 0")
        return self
