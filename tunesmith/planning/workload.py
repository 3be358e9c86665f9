"""The workload of a training: the quantities that determine its memory."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from tunesmith.core.journal import StartEvent
from tunesmith.core.params import Objective, WeightsKind
from tunesmith.models.settings import Optimizer, Vision

SHORT = 512
"""Tokens over which attention is computed in float32 on a CPU, at most (tunesmith/models/attention)."""
BF16, FLOAT32 = 2, 4
"""Bytes a number."""
Sharding: TypeAlias = Literal["none", "full"]
"""What several processes share of a model: nothing, so that each holds all of it and gradients are averaged (DDP), or
its weights, gradients and optimizer state (FSDP2)."""


@dataclass(frozen=True)
class Machine:
    """A device and how it computes, as `tunesmith.models.device.detect` chooses.

    device: "cpu" or "cuda". compute_bytes: bytes of a number in frozen weights and activations. checkpointing: whether
    layers are recomputed in the backward pass.
    """

    device: str
    compute_bytes: int
    checkpointing: bool


CPU = Machine("cpu", FLOAT32, checkpointing=False)
GPU = Machine("cuda", BF16, checkpointing=True)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The largest step of one training. `tunesmith.core.journal.LargestStep` documents the fields that it records."""

    objective: Objective
    weights: WeightsKind
    batch: int
    length: int
    machine: Machine
    rank: int
    completion: int = 0
    labelled: int = 0
    rollouts: int = 0
    group: int = 1
    reference: bool = False
    optimizer: Optimizer = "adamw"
    accumulation: int = 1
    shapes: int = 0
    targets: tuple[str, ...] = ()
    dora: bool = False
    embeddings: bool = False
    trained_bytes: int = FLOAT32
    """Bytes of a number in trained weights; `tunesmith.models.weights.make_trainable_float32` makes it float32."""
    processes: int = 1
    """Processes that share a step. ``batch``, ``labelled`` and ``rollouts`` are those of one of them."""
    sharding: Sharding = "none"
    image_tokens: int = 0
    vision: Vision = "frozen"

    @property
    def seen_tokens(self) -> int:
        """Image tokens of a batch, whose pixels are seen: once for completions that share a prompt's computation."""
        if self.objective in ("sft", "kto"):
            return self.batch * self.image_tokens
        return (self.passes[0].packed if self.packed else self.passes[0].rows) * self.image_tokens

    @property
    def stream_bytes(self) -> int:
        """Bytes of a number in the residual stream, which has the embedding's dtype, as products see it."""
        kept = self.weights == "full" and self.sharding == "none"
        return self.trained_bytes if kept else self.machine.compute_bytes

    @property
    def autocast(self) -> bool:
        """Whether trained weights are cast to a lower precision for products. Sharded ones are gathered in it."""
        return self.machine.compute_bytes < self.trained_bytes and self.sharding == "none"

    @property
    def row_by_row(self) -> bool:
        """Whether packed rows attend one by one, so that each has an output of its own, before they are joined."""
        return self.packed and self.machine.device == "cpu"

    @property
    def attends_in_float32(self) -> bool:
        """Whether attention is computed in float32 whatever the layers compute in: over short rows on a CPU, which
        those of a long packed sequence may be, too (tunesmith/models/attention/packed_attention.py).
        """
        return self.machine.device == "cpu" and (self.packed or self.length <= SHORT)

    @property
    def packed(self) -> bool:
        """Whether rows go through the model one after another, without padding, a mask or repeated keys and values.

        Packed sequences do everywhere. Pairs and marks do on a GPU, and where layers are recomputed; elsewhere their
        prompts are computed once (tunesmith/models/attention).
        """
        if self.objective == "sft":
            return True
        if self.objective == "reward":  # whose score is read at the end of each padded row
            return False
        return not self.rollouts and (self.machine.device == "cuda" or self.machine.checkpointing)

    @property
    def accumulates(self) -> bool:
        """Whether a step sums the gradients of several batches, so that they exist during all forwards but one."""
        return self.accumulation > 1 or self.rollouts > self.batch

    @property
    def passes(self) -> list["Pass"]:
        """The forward passes of one batch; their activations exist together.

        Packed rows are one row to the model. Other prompts go through it once for all their completions, except where
        layers are recomputed (models/attention/shared_prompts.py).
        """
        if self.packed:
            rows = 2 * self.batch if self.pairs else self.batch
            return [Pass(1, rows * self.length, rows * self.length, rows)]
        if self.objective == "kto":  # whose pass for the KL keeps no activations
            return [Pass(self.batch, self.length, self.length)]
        rows, rows_of_prompt = (self.batch, self.group) if self.rollouts else (2 * self.batch, 2)
        if self.machine.checkpointing or not self.completion:
            return [Pass(rows, self.length, self.length)]
        prompt = self.length - self.completion
        return [Pass(-(-rows // rows_of_prompt), prompt, prompt), Pass(rows, self.completion + 1, self.length)]

    @property
    def tokens(self) -> int:
        """Tokens of all passes."""
        return sum(forward.rows * forward.queries for forward in self.passes)

    @property
    def pairs(self) -> bool:
        """Whether an example is a pair, of two rows."""
        return self.objective in ("dpo", "reward")

    @property
    def attended(self) -> int:
        """Pairs of a token and an earlier one of its row, over all passes."""
        total = 0
        for forward in self.passes:
            queries, keys = forward.queries // forward.packed, forward.keys // forward.packed
            total += forward.rows * forward.packed * queries * (2 * keys - queries + 1) // 2
        return total

    @property
    def scored_tokens(self) -> int:
        """Tokens that the output head scores: those with a label (on a CPU, tunesmith/training/trainer_config.py)."""
        forward = self.passes[-1]
        most = forward.rows * forward.packed * self.completion if self.completion else self.tokens
        return min(self.labelled or most, most)


@dataclass(frozen=True)
class Pass:
    """One forward pass: ``rows`` of ``queries`` tokens, each of which attends to up to ``keys`` tokens of its row.

    packed: the sequences that a row holds one after another, which attend to themselves without a mask; 1 under a mask.
    """

    rows: int
    queries: int
    keys: int
    packed: int = 1


def from_journal(start: StartEvent) -> Workload:
    """The largest step of a training, from the `start` event of its journal."""
    step = start["largest_step"]
    return Workload(
        objective=start["objective"],
        weights=start["weights"],
        batch=step["batch"],
        length=step["length"],
        machine=Machine(step["device"], step["dtype_bytes"], checkpointing=step["checkpointing"]),
        rank=step["rank"],
        completion=step["completion"],
        labelled=step["labelled"],
        rollouts=step["rollouts"],
        group=step["group"],
        reference=step["reference"],
        optimizer=cast("Optimizer", step.get("optimizer", "adamw")),
        accumulation=step.get("accumulation", 1),
        shapes=step.get("shapes", 0),
        targets=tuple(step.get("targets", ())),
        dora=step.get("dora", False),
        embeddings=step.get("embeddings", False),
        processes=step.get("processes", 1),
        sharding=step.get("sharding", "none"),
        image_tokens=step.get("image_tokens", 0),
        vision=step.get("vision", "frozen"),
    )
