"""The entries `rlhf.<name>`."""

from pydantic import PositiveFloat, model_validator

from tunesmith.core.params import EntryName
from tunesmith.training.entries.online import Online
from tunesmith.verifiers.names import VerifierName


class Rlhf(Online):
    """RLOO (Ahmadian et al. 2024) against a reward model, with a verifier watching."""

    reward: EntryName
    """The entry of `reward` whose model scores the completions. Required."""
    verifier: VerifierName | None = None
    """Grades the same completions without being a reward, so that reward hacking shows; null where none fits."""
    normalize_advantages: bool = False
    """Whether the advantages of a step are shifted and scaled to mean 0 and deviation 1."""
    reward_clip_range: tuple[float, float] | None = None
    """The bounds to which rewards are clipped, such as [-5, 5]; null: none."""
    beta: PositiveFloat = 0.05
    """Weight of the KL divergence to the reference policy, without which a policy games its reward model."""
    max_kl: PositiveFloat = 1.0
    """Nats a token, above which the training stops."""

    @model_validator(mode="after")
    def _bounds_ascend(self) -> "Rlhf":
        if self.reward_clip_range is not None and self.reward_clip_range[0] >= self.reward_clip_range[1]:
            raise ValueError("reward_clip_range is a lower and a higher bound, such as [-5, 5]")
        return self
