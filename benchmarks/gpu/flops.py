"""Floating-point operations of a training by two conventions, and the share of a card's rate that they are.

MODEL: the products of a token with every weight matrix, the output head included, two operations a weight, and causal
attention, which reads half of its row on average; the backward pass takes twice that where all weights train, and once
where an adapter does, since frozen weights need no gradients (the adapter's own are left out). Recomputed layers do not
count. NVIDIA reports NeMo AutoModel's LoRA so: 12,473 tokens/s of Llama 3.1 8B at 4,096 tokens are 402 TFLOP/s, 41% of
an H100's 989, or 32.2 GFLOP a token, two thirds of its formula for all weights.

SIX_N: six operations for every parameter and token, whatever trains (Kaplan et al. 2020, without attention). For an
adapter it overstates the work by half, and is there because many publish it.
"""

from collections.abc import Sequence

from tunesmith.core.params import WeightsKind
from tunesmith.planning import cards
from tunesmith.planning.model_shape import Shape


def forward(shape: Shape, lengths: Sequence[int]) -> float:
    """Operations of one forward pass over rows of these lengths, each of which attends to itself alone."""
    head = shape.hidden * shape.vocabulary
    products = 2 * (shape.linear_parameters + head) * sum(lengths)
    keys = sum(length * (length + 1) / 2 for length in lengths)
    return products + 4 * shape.layers * shape.query_width * keys


def training(shape: Shape, kind: WeightsKind, lengths: Sequence[int]) -> float:
    """Operations of a training step by MODEL."""
    return (3 if kind == "full" else 2) * forward(shape, lengths)


def six_n(shape: Shape, tokens: int) -> float:
    """Operations of a training step by SIX_N."""
    return 6.0 * shape.parameters * tokens


def utilization(operations: float, seconds: float, card: str) -> float | None:
    """The share of a card's rate (`tunesmith.planning.cards`); None where that is not known."""
    known = cards.named(card)
    return None if known is None else operations / seconds / known.flops
