"""Choose what lets a training fit into memory: recomputed layers, and the batch. Pure: plan and training agree."""

from dataclasses import replace

from tunesmith.planning import memory
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Workload

SHARE = 0.95
"""The share of the memory that a prediction may fill: it may be too low by 5% (benchmarks/memory.py)."""


def fits(shape: Shape, workload: Workload, budget: int) -> bool:
    """Whether a step of ``workload`` is predicted to fit into ``budget`` bytes."""
    return memory.predict(shape, workload).total <= SHARE * budget


def with_recomputation(workload: Workload, active: bool) -> Workload:
    """``workload`` with layers recomputed in the backward pass, or not."""
    return replace(workload, machine=replace(workload.machine, checkpointing=active))


def with_batch(workload: Workload, examples: int, size: int) -> Workload:
    """``workload`` with a step of ``examples`` in batches of ``size``, whose gradients are summed."""
    return replace(workload, batch=size, accumulation=examples // size)


def recompute(shape: Shape, workload: Workload, budget: int) -> bool:
    """Whether layers must be recomputed in the backward pass: whether ``workload`` does not fit otherwise.

    Recomputation costs another forward pass: of a step's arithmetic nearly half with LoRA, a third with all weights.
    """
    return not fits(shape, with_recomputation(workload, False), budget)


def batch(shape: Shape, workload: Workload, examples: int, budget: int) -> int:
    """The largest divisor of ``examples`` that fits as a batch, or else 1, with layers recomputed as ``workload`` says.

    examples: packed sequences, pairs or completions of a step, in the unit of ``workload.batch``.
    """
    divisors = [size for size in range(examples, 0, -1) if examples % size == 0]
    return next((size for size in divisors if fits(shape, with_batch(workload, examples, size), budget)), 1)


def choose(shape: Shape, workload: Workload, examples: int, budget: int) -> Workload:
    """``workload`` in the largest batches that fit without recomputation, or else with it.

    A smaller batch comes before recomputation: a full sequence keeps a GPU busy already.
    """
    plain = with_recomputation(workload, False)
    chosen = with_batch(plain, examples, batch(shape, plain, examples, budget))
    if fits(shape, chosen, budget):
        return chosen
    recomputing = with_recomputation(workload, True)
    return with_batch(recomputing, examples, batch(shape, recomputing, examples, budget))
