"""Decide whether a model is sharded over several processes, and how they divide the examples of a step. Pure."""

from dataclasses import replace

from tunesmith.core.errors import ParamsError
from tunesmith.planning import fit
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Sharding, Workload

MOST_PROCESSES = 4096
"""The largest number of processes that `least_processes` tries."""


def choose(shape: Shape, workload: Workload, budget: int, processes: int) -> Sharding:
    """ "none" where each of ``processes`` has room for the whole model in ``budget`` bytes, else "full".

    workload: what one process does in the lightest step that the params allow, with the smallest batch, and layers
    recomputed if they may be. Without sharding only gradients are exchanged, so "none" is preferred wherever it fits;
    "full" does not promise that it fits. Weights in 4 bits cannot be sharded as they are loaded.
    """
    if processes == 1 or workload.weights == "qlora" or fit.fits(shape, across(workload, processes, "none"), budget):
        return "none"
    return "full"


def across(workload: Workload, processes: int, sharding: Sharding) -> Workload:
    """``workload`` as each of ``processes`` has it, with a batch of the same size."""
    return replace(workload, processes=processes, sharding=sharding if processes > 1 else "none")


def divide(examples: int, processes: int, *, most: int | None = None, least: int = 1) -> list[tuple[int, int]]:
    """The batches that divide a step of ``examples`` evenly, as (batch, accumulation), the largest batch first.

    batch x accumulation x ``processes`` is ``examples`` for each of them. most, least: the largest and the smallest
    batch of a process. Raises ParamsError where there is none, since a step must learn from the same examples however
    many processes there are.
    """
    each, rest = divmod(examples, processes)
    batches = [] if rest else [batch for batch in range(min(most or each, each), least - 1, -1) if each % batch == 0]
    if batches:
        return [(batch, each // batch) for batch in batches]
    numbers = [count for count in range(1, examples + 1) if examples % count == 0 and examples // count >= least]
    raise ParamsError(
        f"runtime.processes: a step of {examples} examples, in batches of {least} or more, cannot be divided evenly "
        f"among {processes} processes",
        fix=f"take {', '.join(map(str, numbers)) or 'fewer'} processes, or let batch_size × gradient_accumulation be a "
        f"multiple of {processes * least}",
    )


def least_processes(shape: Shape, workload: Workload, budget: int) -> int | None:
    """The fewest processes, a power of two, each of which has room for its shard of the model; None for too many."""
    if workload.weights == "qlora":
        return None
    processes = 2
    while processes <= MOST_PROCESSES:
        if fit.fits(shape, across(workload, processes, "full"), budget):
            return processes
        processes *= 2
    return None
