"""The rates of some hardware: a GPU's from its data sheet, a CPU's measured in a fraction of a second."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import meant
from tunesmith.planning import cards, hardware
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.speed import TRAINING_SHARE, Rates
from tunesmith.planning.workload import BF16

SIZE, READ = 1024, 1 << 25
"""Rows and columns of the products, and float32 numbers of the sum, that are timed on a CPU."""
SECONDS = 0.15
"""The time that a measurement takes, at least."""


def gpu(which: str, count: int = 1) -> Hardware:
    """``count`` GPUs by the name of a card, or by their memory in GB.

    Raises ParamsError for a name that `cards` does not know.
    """
    try:
        gigabytes = float(which)
    except ValueError:
        card = cards.named(which)
        if card is None:
            raise ParamsError(
                f"--gpu {which}: no card of that name is known{meant(which, [*cards.CARDS])}",
                fix=f"give its memory in GB, or one of {', '.join(cards.CARDS)}",
            ) from None
        return replace(hardware.gpu(card.gigabytes, card.name), count=count)
    if not 0 < gigabytes < math.inf:
        raise ParamsError(f"--gpu {which}: not a size of memory", fix="give GB above 0, such as 24")
    return replace(hardware.gpu(gigabytes), count=count)


def of(machine: Hardware) -> Rates | None:
    """The rates of ``machine``; None for a GPU that is only a size, or that the table does not know."""
    if machine.machine.device == "cuda":
        card = cards.named(machine.name)
        if card is None:
            return None
        return Rates(f"{card.name} (data sheet)", card.flops, card.bandwidth, TRAINING_SHARE["cuda"], card.link)
    return measured(machine.machine.compute_bytes)


def measured(compute_bytes: int) -> Rates:
    """The rates of this machine's processor, at the load that it has now. compute_bytes: 2 for bfloat16."""
    import torch

    dtype = torch.bfloat16 if compute_bytes == BF16 else torch.float32
    left, right = torch.ones((SIZE // 2, SIZE), dtype=dtype), torch.ones((SIZE, SIZE), dtype=dtype)
    numbers = torch.ones(READ)
    with torch.inference_mode():
        products = _rate(lambda: left @ right)
        reads = _rate(numbers.sum)
    return Rates("this processor (measured now)", products * SIZE**3, reads * numbers.nbytes, TRAINING_SHARE["cpu"])


def _rate(work: Callable[[], object]) -> float:
    """How often a second ``work`` is done: the best of several after the first, since others compute too."""
    work()
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        work()
        best = max(best, 1 / (time.perf_counter() - start))
    return best
