"""The order in which examples train, where TRL's own would differ after a resumed second epoch, or is the rows' own."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

SORTED_TOGETHER = 16
"""Batches whose examples are sorted by length, so that they are padded little; within these, batches are shuffled."""

Example = TypeVar("Example")


def in_batches(
    examples: Sequence[Example], length: Callable[[Example], int], batch_size: int, *, seed: int, epochs: int = 1
) -> list[Example]:
    """Every example once an epoch, in random batches of similar length, of which the last may be shorter."""
    generator = random.Random(seed)
    shuffled = [example for _ in range(epochs) for example in generator.sample(examples, len(examples))]
    reach, ordered = SORTED_TOGETHER * batch_size, list[Example]()
    for begin in range(0, len(shuffled), reach):
        window = sorted(shuffled[begin : begin + reach], key=length)
        whole = len(window) // batch_size * batch_size
        batches = [window[start : start + batch_size] for start in range(0, whole, batch_size)]
        generator.shuffle(batches)
        ordered += [example for batch in batches for example in batch] + window[whole:]
    return ordered


def drawn(examples: Sequence[Example], number: int, *, seed: int) -> list[Example]:
    """``number`` examples: all of them in random order, then all again in another, as often as it takes."""
    generator = random.Random(seed)
    order = list[Example]()
    while len(order) < number:
        order += generator.sample(examples, len(examples))
    return order[:number]
