"""One training as its memory sees it: what is trained, on what kind of machine, how much at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tunesmith.models.device import Profile
from tunesmith.models.preference_pairs import Pair
from tunesmith.models.weights import Kind, Lora
from tunesmith.training.rollouts import Online
from tunesmith.training.sft import Examples, Sft
from tunesmith.training.trainer_config import Schedule

Objective: TypeAlias = Literal["sft", "dpo", "reward", "rlhf", "grpo"]
Weights: TypeAlias = Literal["lora", "qlora", "full"]

BF16, FLOAT32 = 2, 4
"""Bytes a number."""


@dataclass(frozen=True)
class Machine:
    """device: "cpu" or "cuda". compute: bytes of a number in frozen weights and activations. checkpointing: whether
    layers are recomputed in the backward pass. As `tunesmith.models.device.detect` chooses them.
    """

    device: str
    compute: int
    checkpointing: bool


CPU = Machine("cpu", FLOAT32, checkpointing=False)
GPU = Machine("cuda", BF16, checkpointing=True)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, as large as it gets."""

    objective: Objective
    weights: Weights
    batch: int
    """What goes forward and backward at once: packed sequences (sft), pairs (dpo, reward), completions (rlhf, grpo)."""
    length: int
    """Tokens of a packed sequence, or of a prompt with its longest completion."""
    machine: Machine
    rank: int
    """Of LoRA."""
    completion: int = 0
    """How many of ``length`` are the completion; 0 for packed sequences."""
    labelled: int = 0
    """Tokens of a batch of packed sequences that are trained; 0 where that is not known, and all may be."""
    rollouts: int = 0
    """Completions written at once (rlhf, grpo)."""
    group: int = 1
    """Completions a prompt (rlhf, grpo)."""
    reference: bool = False
    """Whether a reference policy stays in memory, as KL needs it (rlhf, grpo); DPO's is read beforehand."""
    trained: int = FLOAT32
    """Bytes of a number in what is trained: float32, which `tunesmith.models.weights.make_precise` sees to."""

    @property
    def stream(self) -> int:
        """Bytes of a number between layers: the embedding's dtype."""
        return self.trained if self.weights == "full" else self.machine.compute

    @property
    def autocast(self) -> bool:
        """Whether what is trained is cast down to compute."""
        return self.machine.compute < self.trained

    @property
    def row_by_row(self) -> bool:
        """Whether attention has neither mask nor keys repeated for every head, but an output for each packed row."""
        return self.objective == "sft" and self.machine.device == "cpu"

    @property
    def accumulates(self) -> bool:
        """Whether gradients of an earlier batch of the same step are there already."""
        return self.rollouts > self.batch

    @property
    def passes(self) -> list["Pass"]:
        """What goes forward and backward at once.

        Packed sequences are one row without padding (TRL's bfd), so that their mask grows with the square of batch
        times length; on a CPU they attend one by one, without (tunesmith/models/packed_attention.py). Prompts go
        through the model once for all their completions, except where layers are recomputed (models/shared_prompts.py).
        """
        if self.objective == "sft":
            return [Pass(1, self.batch * self.length, self.batch * self.length)]
        rows, alike = (self.batch, self.group) if self.rollouts else (2 * self.batch, 2)
        if self.machine.checkpointing or not self.completion:
            return [Pass(rows, self.length, self.length)]
        prompt = self.length - self.completion
        return [Pass(-(-rows // alike), prompt, prompt), Pass(rows, self.completion + 1, self.length)]

    @property
    def tokens(self) -> int:
        return sum(one.rows * one.queries for one in self.passes)

    @property
    def scored(self) -> int:
        """Tokens that the output head scores: those with a label (on a CPU, tunesmith/training/trainer_config.py)."""
        return self.passes[-1].rows * self.completion if self.completion else self.labelled or self.tokens


@dataclass(frozen=True)
class Pass:
    """Rows of so many tokens, each of which attends to up to ``keys`` tokens of its row."""

    rows: int
    queries: int
    keys: int

    @property
    def mask(self) -> int:
        """Cells of the attention mask."""
        return self.rows * self.queries * self.keys


def of_sft(sft: Sft, kind: Kind, lora: Lora | None, profile: Profile, examples: Examples) -> Run:
    """Packed sequences, as long as they may be, of rows of which as much is trained as of these."""
    trained = sum(sum(example.completion_mask) for example in examples.values())
    share = trained / sum(len(example.input_ids) for example in examples.values())
    return Run(
        objective="sft",
        weights=kind,
        batch=sft.batch_size,
        length=sft.max_length,
        labelled=round(share * sft.batch_size * sft.max_length),
        machine=machine(profile),
        rank=lora.rank if lora else 0,
    )


def of_pairs(
    objective: Objective, schedule: Schedule, kind: Kind, lora: Lora, profile: Profile, given: Sequence[Pair]
) -> Run:
    """Batches of the longest pair."""
    return Run(
        objective=objective,
        weights=kind,
        batch=schedule.batch_size,
        length=max(pair.length for pair in given),
        completion=max(max(len(pair.chosen), len(pair.rejected)) for pair in given),
        machine=machine(profile),
        rank=lora.rank,
    )


def of_online(objective: Objective, online: Online, lora: Lora, profile: Profile, longest_prompt: int) -> Run:
    """A step's answers, none of which ends before it must."""
    return Run(
        objective=objective,
        weights=online.weights,
        batch=online.batch_size,
        length=longest_prompt + online.max_new_tokens,
        completion=online.max_new_tokens,
        rollouts=online.prompts * online.group,
        group=online.group,
        reference=online.beta > 0,
        machine=machine(profile),
        rank=lora.rank,
    )


def machine(profile: Profile) -> Machine:
    return Machine(profile.device, profile.dtype.itemsize, checkpointing=profile.gradient_checkpointing)
