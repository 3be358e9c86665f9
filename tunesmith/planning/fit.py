"""What fits into memory, for the plan and for the trainings that ask it. Pure."""

from collections.abc import Callable
from dataclasses import replace

from tunesmith.planning import memory
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Workload

SHARE = 0.95
"""The share of the memory that a prediction may fill: it may be too low by 5% (benchmarks/memory.py)."""
MAX_BATCH, LENGTH_STEP = 1024, 64
"""Largest batch that `largest` tries, and the step between the lengths that it tries, in tokens."""


def fits(shape: Shape, workload: Workload, budget: int) -> bool:
    """Whether a step of ``workload`` is predicted to fit into ``budget`` bytes."""
    return memory.predict(shape, workload).total <= SHARE * budget


def with_recomputation(workload: Workload, active: bool) -> Workload:
    """``workload`` with layers recomputed in the backward pass, or not."""
    return replace(workload, machine=replace(workload.machine, checkpointing=active))


def recompute(shape: Shape, workload: Workload, budget: int) -> bool:
    """Whether layers must be recomputed in the backward pass: whether ``workload`` does not fit otherwise.

    Recomputation costs another forward pass: of a step's arithmetic nearly half with LoRA, a third with all weights.
    """
    return not fits(shape, with_recomputation(workload, False), budget)


def largest(shape: Shape, workload: Workload, budget: int) -> Workload | None:
    """``workload`` with the largest batch that fits ``budget`` bytes, or else one group of the longest fitting length.

    Rollouts come in whole groups, all generated and trained at once. None where not even LENGTH_STEP tokens fit.
    """

    def with_groups(count: int) -> Workload:
        size = count * workload.group
        return replace(workload, batch=size, rollouts=size if workload.rollouts else 0)

    def with_length(steps: int) -> Workload:
        length = steps * LENGTH_STEP
        return replace(with_groups(1), length=length, completion=workload.completion * length // workload.length)

    def may(candidate: Workload) -> bool:
        return fits(shape, candidate, budget)

    if may(with_groups(1)):
        return with_groups(_highest(MAX_BATCH // workload.group, lambda count: may(with_groups(count))))
    if may(with_length(1)):
        return with_length(_highest(workload.length // LENGTH_STEP, lambda steps: may(with_length(steps))))
    return None


def _highest(limit: int, fits: Callable[[int], bool]) -> int:
    """The highest number up to ``limit`` that fits, by bisection; 1 must fit, and all numbers below one that fits."""
    low, high = 1, max(limit, 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
