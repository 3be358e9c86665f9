"""The order in which examples train, for trainers of TRL that would not find it again after a resume."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

SORTED_TOGETHER = 16
"""Batches whose examples are sorted by length, so that they are padded little; within these, batches are shuffled."""

Example = TypeVar("Example")


def in_batches(
    examples: Sequence[Example], length: Callable[[Example], int], batch_size: int, *, seed: int, epochs: int = 1
) -> list[Example]:
    """Every example once an epoch, in random batches of similar length, of which the last may be shorter.

    A batch that an epoch leaves open is filled by the next, with other examples. No batch has an example twice, unless
    there are fewer examples than a batch takes.
    """
    generator = random.Random(seed)
    order = list[int]()
    for _ in range(epochs):
        shuffled = generator.sample(range(len(examples)), len(examples))
        begun = set(order[len(order) - len(order) % batch_size :])
        filling = [number for number in shuffled if number not in begun][: -len(order) % batch_size]
        rest = [number for number in shuffled if number not in {*filling}]
        order += filling + _in_windows(rest, lambda number: length(examples[number]), batch_size, generator)
    return [examples[number] for number in order]


def _in_windows(
    numbers: Sequence[int], length: Callable[[int], int], batch_size: int, generator: random.Random
) -> list[int]:
    """Windows of batches, in which batches of similar length are in random order; the last may be shorter."""
    reach, ordered = SORTED_TOGETHER * batch_size, list[int]()
    for begin in range(0, len(numbers), reach):
        window = sorted(numbers[begin : begin + reach], key=length)
        whole = len(window) // batch_size * batch_size
        batches = [window[start : start + batch_size] for start in range(0, whole, batch_size)]
        generator.shuffle(batches)
        ordered += [number for batch in batches for number in batch] + window[whole:]
    return ordered


def drawn(examples: Sequence[Example], number: int, *, seed: int) -> list[Example]:
    """``number`` examples: all of them in random order, then all again in another, as often as it takes."""
    generator = random.Random(seed)
    order = list[Example]()
    while len(order) < number:
        order += generator.sample(examples, len(examples))
    return order[:number]
