"""Memory of an optimizer's state, in bytes, from the shapes of the trained tensors. Pure arithmetic."""

import math
from collections.abc import Iterable
from typing import TypeAlias

from tunesmith.models.settings import Optimizer

FLOAT32 = 4
MOMENTS = 2
"""Moments that AdamW keeps for a trained parameter, in its dtype."""
BLOCK = 256
"""Numbers of an 8-bit moment that share a float32 constant (Dettmers et al. 2022; bitsandbytes 0.50, `init_state`)."""
SMALLEST = 4096
"""Numbers in a tensor below which bitsandbytes keeps its moments in float32 (`min_8bit_size`)."""
PAGED = 100_000
"""Numbers in a tensor from which bitsandbytes pages its moments (`get_state_buffer`)."""

Tensor: TypeAlias = tuple[int, ...]


def state(
    optimizer: Optimizer, tensors: Iterable[Tensor], embeddings: Iterable[Tensor], *, trained_bytes: int, device: str
) -> int:
    """Bytes of the optimizer's state on ``device``.

    tensors: the shapes of trained tensors. embeddings: those of trained embeddings, whose moments transformers keeps in
    float32 under 8-bit AdamW, and which muon leaves to AdamW. trained_bytes: bytes of a number in trained weights.
    Paged moments live in the RAM of a GPU's host, so that they count on a CPU alone: the driver moves them to the GPU
    where there is room, and back where there is none.
    """
    adam = MOMENTS * trained_bytes
    match optimizer:
        case "adamw":
            return adam * sum(map(math.prod, (*tensors, *embeddings)))
        case "adamw_8bit" | "paged_adamw_8bit":
            paged = optimizer == "paged_adamw_8bit" and device == "cuda"
            sizes = [*((tensor, False) for tensor in tensors), *((tensor, True) for tensor in embeddings)]
            return sum(0 if paged and math.prod(shape) >= PAGED else _eight_bit(shape, whole) for shape, whole in sizes)
        case "adafactor":
            return sum(map(_factored, (*tensors, *embeddings)))
        case "muon":
            matrices = sum((1 if len(shape) > 1 else MOMENTS) * trained_bytes * math.prod(shape) for shape in tensors)
            return matrices + adam * sum(map(math.prod, embeddings))


def _eight_bit(shape: Tensor, whole: bool) -> int:
    """Both moments of 8-bit AdamW. whole: whether they are kept in float32."""
    numbers = math.prod(shape)
    if whole or numbers < SMALLEST:
        return MOMENTS * FLOAT32 * numbers
    return MOMENTS * (numbers + FLOAT32 * -(-numbers // BLOCK))


def _factored(shape: Tensor) -> int:
    """Adafactor's second moment: a number a row and a column of a matrix (Shazeer and Stern 2018, section 3)."""
    return FLOAT32 * (math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1] if len(shape) > 1 else math.prod(shape))
