"""Methods, each an objective on a kind of weights: the memory of each on some hardware, and which to start with.

The labels of the rows decide the objective, the hardware decides the weights. LoRA comes first: where the base fits
unquantized, quantizing it buys only slower steps and rounding. QLoRA is for a base that does not fit otherwise. Full
fine-tuning is there to show its price; LoRA on every layer matches it on data sets of the size that people label
(Schulman et al. 2025, "LoRA Without Regret"; less so for training on billions of tokens, Biderman et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith.core.params import OBJECTIVES, Objective, WeightsKind
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import row_kinds
from tunesmith.planning import fit, memory, sharding
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.memory import Memory
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Machine, Workload

SEQUENCES, PAIRS, GROUP = 4, 2, 8
"""The smallest useful batch of a method: packed sequences (SFT), pairs (two marks each), completions of one prompt."""
OBJECTIVE_NAMES: dict[Objective, str] = {
    "sft": "SFT",
    "dpo": "DPO",
    "kto": "KTO",
    "reward": "reward",
    "rlhf": "RLHF",
    "grpo": "GRPO",
}
LEARNS_THROUGH: dict[Objective, Objective] = {"rlhf": "reward"}
"""The objective whose rows another one learns from: RLHF learns through its reward model."""
WEIGHTS_NAMES: dict[WeightsKind, str] = {"lora": "LoRA", "qlora": "QLoRA", "full": "full"}


@dataclass(frozen=True)
class Method:
    """An objective on a kind of weights, for one model and machine.

    workload: the method at its smallest useful batch on each device, which takes ``memory`` of each. largest: the
    largest workload that fits ``budget``, or None. trainable: parameters. artifact: bytes on disk. budget: bytes of
    memory of each device.
    """

    workload: Workload
    memory: Memory
    largest: Workload | None
    trainable: int
    artifact: int
    budget: int

    @property
    def name(self) -> str:
        return f"{OBJECTIVE_NAMES[self.workload.objective]}, {WEIGHTS_NAMES[self.workload.weights]}"

    @property
    def fits(self) -> bool:
        """Whether the smallest useful batch fits."""
        return self.memory.total <= fit.SHARE * self.budget


def objectives_of_kinds(kinds: Sequence[RowKind]) -> list[Objective]:
    """The objectives that rows of ``kinds`` can train, given a verifier that fits them."""
    return [name for name in OBJECTIVES if row_kinds.LEARNS_FROM[LEARNS_THROUGH.get(name, name)][1] in kinds]


def objectives_of_rows(kind: RowKind, verifier: str | None) -> list[Objective]:
    """The objectives that rows of ``kind`` with this verifier can train."""
    trainable = row_kinds.objectives(kind, verifier)
    return [name for name in OBJECTIVES if LEARNS_THROUGH.get(name, name) in trainable]


def survey(
    shape: Shape, objectives: Sequence[Objective], hardware: Hardware, *, length: int, rank: int
) -> list[list[Method]]:
    """For every objective, the methods with each kind of weights, sharded only where they do not fit on each of several
    GPUs. length: tokens of a sequence. A base that reads images has none that needs a reward model, which is of text.
    """
    if shape.vision is not None:
        objectives = [name for name in objectives if LEARNS_THROUGH.get(name, name) != "reward"]
    workloads = [
        [minimum_workload(objective, kind, hardware.machine, length=length, rank=rank) for kind in WEIGHTS_NAMES]
        for objective in objectives
    ]
    return [[_method(shape, workload, hardware) for workload in group] for group in workloads]


def _method(shape: Shape, workload: Workload, hardware: Hardware) -> Method:
    """The method with its layers recomputed only where it does not fit otherwise, as `checkpointing: auto` trains."""
    budget, processes = hardware.budget, hardware.count
    shared = sharding.choose(shape, fit.with_recomputation(workload, True), budget, processes)
    workload = sharding.across(workload, processes, shared)
    workload = fit.with_recomputation(workload, fit.recompute(shape, workload, budget))
    return Method(
        workload=workload,
        memory=memory.predict(shape, workload),
        largest=fit.largest(shape, workload, budget),
        trainable=memory.trainable(shape, workload),
        artifact=memory.artifact(shape, workload),
        budget=budget,
    )


def minimum_workload(objective: Objective, kind: WeightsKind, machine: Machine, *, length: int, rank: int) -> Workload:
    """``objective`` at its smallest useful batch; completions are half of the length."""
    workload = Workload(objective=objective, weights=kind, batch=SEQUENCES, length=length, machine=machine, rank=rank)
    match objective:
        case "sft":
            return workload
        case "dpo" | "reward":
            return replace(workload, batch=PAIRS, completion=length // 2)
        case "kto":
            return replace(workload, batch=2 * PAIRS, completion=length // 2)
        case "rlhf" | "grpo":
            workload = replace(workload, batch=GROUP, rollouts=GROUP, group=GROUP, completion=length // 2)
            return replace(workload, reference=objective == "rlhf")


def lightest(methods: Sequence[Method]) -> Method | None:
    """The first of LoRA and QLoRA, for one objective, that fits with a useful batch, or else that fits at all."""
    adapters = [method for method in methods if method.workload.weights != "full"]
    useful = [method for method in adapters if method.fits]
    return next(iter(useful or [method for method in adapters if method.largest is not None]), None)
