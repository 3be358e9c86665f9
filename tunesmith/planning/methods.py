"""Every method, an objective on some weights, on some hardware: what it takes, and which to start with.

The labels of the rows decide the objective, the hardware decides the weights. LoRA comes first: where the base fits as
it is, quantizing it buys nothing but slower steps and rounding. QLoRA is for a base that does not fit otherwise. Full
fine-tuning is shown so that its price is known; LoRA on every layer matches it on data sets of the size that people
label (Schulman et al. 2025, "LoRA Without Regret"; less so for training on billions of tokens, Biderman et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from tunesmith.core.ready_rows import Kind
from tunesmith.data import row_kinds
from tunesmith.planning import memory
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.memory import Memory
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Machine, Objective, Run, Weights

SEQUENCES, PAIRS, GROUP = 4, 2, 8
"""The batch that a method must bear to be of use: packed sequences (SFT), pairs, completions of one prompt."""
NAMES: dict[Objective, str] = {"sft": "SFT", "dpo": "DPO", "reward": "reward", "rlhf": "RLHF", "grpo": "GRPO"}
LEARNS: dict[Objective, Objective] = {"rlhf": "reward"}
"""RLHF learns from rows by way of its reward model."""
WEIGHTS: dict[Weights, str] = {"lora": "LoRA", "qlora": "QLoRA", "full": "full"}


@dataclass(frozen=True)
class Candidate:
    """run: at the batch that it must bear, with its ``memory``. largest: the most that fits, or None."""

    run: Run
    memory: Memory
    largest: Run | None
    trainable: int
    artifact: int
    budget: int

    @property
    def name(self) -> str:
        return f"{NAMES[self.run.objective]}, {WEIGHTS[self.run.weights]}"

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.budget


def offered(kinds: Sequence[Kind]) -> list[Objective]:
    """What rows of ``kinds`` can train, where a verifier fits them."""
    return [one for one in get_args(Objective) if row_kinds.OBJECTIVES[LEARNS.get(one, one)][1] in kinds]


def allowed(kind: Kind, verifier: str | None) -> list[Objective]:
    """What rows of ``kind`` with this verifier can train."""
    return [one for one in get_args(Objective) if LEARNS.get(one, one) in row_kinds.objectives(kind, verifier)]


def survey(
    shape: Shape, wanted: Sequence[Objective], hardware: Hardware, *, length: int, rank: int
) -> list[list[Candidate]]:
    """For every objective, a candidate with each kind of weights. length: tokens of a sequence."""
    return [
        [
            _candidate(shape, working(objective, weights, hardware.machine, length=length, rank=rank), hardware.budget)
            for weights in WEIGHTS
        ]
        for objective in wanted
    ]


def _candidate(shape: Shape, run: Run, budget: int) -> Candidate:
    return Candidate(
        run=run,
        memory=memory.predict(shape, run),
        largest=memory.largest(shape, run, budget),
        trainable=memory.trainable(shape, run),
        artifact=memory.artifact(shape, run),
        budget=budget,
    )


def working(objective: Objective, weights: Weights, machine: Machine, *, length: int, rank: int) -> Run:
    """``objective`` at the batch that it must bear; completions are half of the length."""
    run = Run(objective=objective, weights=weights, batch=SEQUENCES, length=length, machine=machine, rank=rank)
    match objective:
        case "sft":
            return run
        case "dpo" | "reward":
            return replace(run, batch=PAIRS, completion=length // 2)
        case "rlhf" | "grpo":
            run = replace(run, batch=GROUP, rollouts=GROUP, group=GROUP, completion=length // 2)
            return replace(run, reference=objective == "rlhf")


def lightest(candidates: Sequence[Candidate]) -> Candidate | None:
    """Of one objective: the first of LoRA and QLoRA that bears its batch; else the first that fits at all."""
    adapters = [candidate for candidate in candidates if candidate.run.weights != "full"]
    bearing = [candidate for candidate in adapters if candidate.fits]
    return next(iter(bearing or [candidate for candidate in adapters if candidate.largest is not None]), None)
