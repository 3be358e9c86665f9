"""Batches of preference pairs for TRL's trainers, and the preference that DPO's policy implies."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.attention.shared_prompts import SharedPrompts
from tunesmith.models.images.tokens import image_tokens
from tunesmith.models.log_probs import padded
from tunesmith.models.preference_pairs import Pair
from tunesmith.training import batch_order, measurements
from tunesmith.training.fit import Batchable
from tunesmith.training.measurements import Preference
from tunesmith.training.spec import LargestStep
from tunesmith.training.trainer_config import BatchRecorder

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
"""TRL's names for the reference log-probabilities of the two sides."""


def largest_step(pairs: Sequence[Pair], batch_size: int) -> LargestStep:
    """A batch of pairs that are all as long as the longest."""
    completions = {max(len(pair.chosen), len(pair.rejected)) for pair in pairs}
    return LargestStep(
        batch=batch_size,
        length=max(pair.length for pair in pairs),
        completion=max(completions),
        shapes=len(completions) + len({len(pair.prompt) for pair in pairs}),
        image_tokens=max(image_tokens(pair.prompt) for pair in pairs),
    )


def batchable(pairs: Sequence[Pair]) -> Batchable:
    """What batches are made of."""
    return Batchable(lambda batch: largest_step(pairs, batch), fmean(pair.tokens for pair in pairs), len(pairs))


def collate(features: list[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """A batch: the chosen conversations, then the rejected ones, laid out for `models.attention.shared_prompts`.

    input_ids, attention_mask and completion_mask have the shape (2 x pairs, tokens), reference values (pairs).
    """
    prompts, prompt_mask = padded([feature["prompt_ids"] for feature in features] * 2, pad, left=True)
    completions = [feature[side] for side in ("chosen_ids", "rejected_ids") for feature in features]
    answers, answer_mask = padded(completions, pad, left=False)
    reference = {name: torch.tensor([f[name] for f in features]) for name in REFERENCE if name in features[0]}
    return {
        "input_ids": torch.cat([prompts, answers], 1),
        "attention_mask": torch.cat([prompt_mask, answer_mask], 1),
        "completion_mask": torch.cat([torch.zeros_like(prompt_mask), answer_mask], 1),
        **reference,
    }


def shared(model: Any, inputs: dict[str, Tensor]) -> SharedPrompts:
    """``model``, which computes the prompt of a pair once for both sides."""
    begin = int(inputs["completion_mask"].any(0).int().argmax())
    return SharedPrompts(model, inputs["input_ids"].shape[1] - begin)


def in_order(pairs: list[Pair], step: int, *, seed: int, epochs: int) -> list[Pair]:
    """``pairs`` in the order in which they train, over all epochs. step: the number of pairs that a step takes."""
    return batch_order.in_batches(pairs, lambda pair: pair.length, step, seed=seed, epochs=epochs)


def columns(pairs: list[Pair]) -> dict[str, Sequence[object]]:
    """The columns of the pairs that `collate` reads."""
    return {
        "id": [pair.id for pair in pairs],
        "prompt_ids": [pair.prompt for pair in pairs],
        "chosen_ids": [pair.chosen for pair in pairs],
        "rejected_ids": [pair.rejected for pair in pairs],
    }


def collator(pad: int) -> BatchRecorder:
    """`collate`, with a record of the rows of every batch."""
    return BatchRecorder(lambda features: collate(features, pad), lambda feature: [feature["id"]])


def implicit_preference(
    now: list[tuple[float, float]], reference: list[tuple[float, float]], beta: float, tokens: int
) -> Preference:
    """The preference by DPO's implicit reward: beta times the log-ratio to the reference (Rafailov et al. 2023, eq. 5).

    tokens: the number of tokens of all chosen completions. By its own values the reference is indifferent: every pair
    is a tie, which counts half.
    """
    chosen, rejected = (
        [beta * (after[side] - before[side]) for after, before in zip(now, reference, strict=True)] for side in (0, 1)
    )
    likelier = fmean(better > worse for better, worse in now)
    surprise = -sum(better for better, _ in now) / tokens
    return measurements.preference(chosen, rejected, likelier=likelier, surprise=surprise)
