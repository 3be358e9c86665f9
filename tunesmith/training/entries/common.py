"""Params that the entries of all objectives share."""

from typing import Annotated, ClassVar, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tunesmith.core.params import EntryName, Section, WeightsKind
from tunesmith.models.settings import Lora, Optimizer, Vision

USUAL_SIZE = 4096
"""The hidden size of the models of 7 to 8 billion parameters for which published defaults were chosen."""
LARGER, SMALLER = 0.781, 0.0775
"""Exponents of the hidden size with which the best learning rate falls."""


def default_rate(full_rate: float, weights: WeightsKind, hidden_size: int) -> float:
    """The learning rate of a training whose params name none, to two digits.

    full_rate: the rate for all weights of a model of the usual size. An adapter takes ten times as much (Schulman et
    al. 2025, LoRA Without Regret). The best rate fell with the power 0.781 of the hidden size in Llama models, and
    0.0775 in Qwen models (get_lr of thinking-machines-lab/tinker-cookbook). Of others nothing is known, so the more
    careful of the two holds on each side of the usual size. From QLoRA's 2e-4 at 7B it makes 1.2e-4 at 65B, where
    Dettmers et al. took 1e-4 (2023, table 9).
    """
    exponent = LARGER if hidden_size > USUAL_SIZE else SMALLER
    rate = full_rate * (1 if weights == "full" else 10) * (USUAL_SIZE / hidden_size) ** exponent
    return float(f"{rate:.1e}")


def _one_name(value: object) -> object:
    """Return the name of a data set. Raises ValueError for a list of data sets, with the edit that makes a mixture."""
    if isinstance(value, list):
        parts = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()
        raise ValueError(
            "a list of data sets is an entry of `mixtures`, since DVC follows names alone: write "
            f"mixtures: {{mixed: {{datasets: {parts}}}}} and dataset: mixed"
        )
    return value


class Entry(Section):
    """One training: one model of the pipeline, in the folder `models/<name>`."""

    full_rate: ClassVar[float]
    """Learning rate for all weights of a model of `USUAL_SIZE`: TRL 1.16's default for the objective."""

    dataset: Annotated[str, BeforeValidator(_one_name)]
    """The data set of `data` that it learns from, or the mixture of `mixtures`. Required."""
    weights: WeightsKind = "lora"
    """Which weights train: an adapter (lora), an adapter on a 4-bit base (qlora), or all of them (full)."""
    lora: Lora = Lora()
    """The adapter, for lora and qlora."""
    vision: Vision = "frozen"
    """What trains beside the language model, in a base that reads images: the projector that turns what is seen into
    embeddings (projector), or that and the tower before it (all), in the way that `weights` says; or neither (frozen).
    A start with an adapter keeps the adapter's own layers."""
    learning_rate: PositiveFloat | None = None
    """Peak learning rate; null: by `default_rate`, from the objective's rate, the weights and the model's size."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the learning rate rises to its peak."""
    scheduler: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    """The learning rate after its peak: it falls to 0 in a line or a half cosine, stays, or stays until `decay_share`
    of the steps are left and then falls (wsd: warm up, stay, decay; Hu et al. 2024)."""
    decay_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the steps in which the learning rate of wsd falls to 0; other schedulers do not read it."""
    optimizer: Optimizer = "adamw"
    """adamw (Loshchilov and Hutter 2019), the same with moments in 8 bits (adamw_8bit) that may move to the machine's
    memory where the GPU's is full (paged_adamw_8bit), adafactor (Shazeer and Stern 2018), or muon (Jordan et al. 2024)
    for matrices, with adamw for all else."""
    weight_decay: NonNegativeFloat = 0.0
    """Decay of the trained weights, biases and norms left out."""
    max_grad_norm: PositiveFloat = 1.0
    """The norm to which larger gradients are scaled down."""
    batch_size: PositiveInt = 8
    """Examples that go through the model at once, over all processes."""
    checkpointing: Literal["auto", "always", "never"] = "auto"
    """Whether layers are computed again in the backward pass, which takes a third more time and far less memory; auto:
    where `tunesmith plan` says that the training does not fit otherwise."""
    seed: NonNegativeInt = 20
    """Seed of everything random: the order of the rows, the adapter's initial values, dropout, sampled answers."""
    probes: NonNegativeInt = 16
    """Validation prompts answered before and after the training, to see that the answers changed."""

    eval_steps: PositiveFloat = 0.2
    """Steps between measurements of the validation split; below 1, a share of all steps, such as 0.2 for every fifth of
    them. The last step is always measured. Measured are the loss (sft), the preference (dpo, kto, reward) or the score
    of greedy answers (rlhf, grpo)."""
    eval_rows: PositiveInt = 200
    """Rows of the validation split that are measured, at most."""
    keep: Literal["best", "last"] = "best"
    """The step whose weights the model gets: the best on the validation split, or the last. Where that split has no
    rows, both are the last."""
    patience: PositiveInt | None = None
    """Measurements in a row without a new best after which the training stops; null: never."""

    @model_validator(mode="after")
    def _decay_follows_warmup(self) -> Self:
        if self.scheduler == "wsd" and self.warmup_share + self.decay_share > 1:
            raise ValueError("warmup_share and decay_share of the scheduler wsd are more than all steps together")
        return self

    @model_validator(mode="after")
    def _adapter_fits(self) -> Self:
        self.lora.check_fits(self.weights)
        return self

    def at_size(self, hidden_size: int) -> Self:
        """The entry with a learning rate: that of its params, or else the default for a model of this hidden size."""
        rate = self.learning_rate or default_rate(self.full_rate, self.weights, hidden_size)
        return self.model_copy(update={"learning_rate": rate})

    @property
    def adapter(self) -> Lora | None:
        """The adapter that trains; None where all weights do."""
        return None if self.weights == "full" else self.lora

    @property
    def examples_a_step(self) -> int:
        """Those of all batches of a step."""
        return self.batch_size


class Batched(Entry):
    """A training on given rows, a number of batches of them a step."""

    @property
    def examples_a_step(self) -> int:
        return self.batch_size * self.gradient_accumulation

    max_length: PositiveInt
    """Tokens of an example, at most; each objective has a default."""
    gradient_accumulation: PositiveInt = 1
    """Batches a step: their gradients are added, with the memory of one."""
    tokens_per_step: PositiveInt | None = None
    """Tokens that a step trains on, about; batch_size and gradient_accumulation then follow from it, from the length of
    the rows and from the memory that `tunesmith plan` predicts. null: they are what they say."""

    @model_validator(mode="after")
    def _tokens_or_batches(self) -> Self:
        if self.tokens_per_step is not None and self.gradient_accumulation > 1:
            raise ValueError("tokens_per_step decides gradient_accumulation: leave one of them out")
        return self


class Continued(Entry):
    """A training that goes on from another model, which is also the reference that it is held to."""

    start: EntryName
    """The model that is trained further: `base`, or the name of another entry. Required."""
