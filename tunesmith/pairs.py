"""Preference pairs as tokens, and how a policy or a reward model tells them apart."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tunesmith import chat, soundness
from tunesmith.arguments import Named
from tunesmith.likelihood import Tokens, likelihoods, padded
from tunesmith.models import OpenModel
from tunesmith.prefix import SharedPrompts
from tunesmith.sft import check_lengths
from tunesmith.soundness import Preference

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
"""TRL's names for what DPO's reference policy gives the two sides."""


@dataclass(frozen=True)
class Pair:
    """id: of the row. chosen and rejected end with the end of turn."""

    id: str
    prompt: Tokens
    chosen: Tokens
    rejected: Tokens

    @property
    def length(self) -> int:
        """Tokens of the prompt with the longer completion."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def tokens(self) -> int:
        """Tokens of both conversations."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], max_length: int, section: str, source: Path
) -> list[Pair]:
    """Rows as tokens. Raises DataError that counts the pairs longer than ``max_length``: none is cut or dropped."""
    pairs = [_encode(tokenizer, row) for row in rows]
    check_lengths([pair.length for pair in pairs], max_length, section, source)
    return pairs


def _encode(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> Pair:
    sides = [chat.encode_example(tokenizer, row["prompt"], row[side]).split() for side in ("chosen", "rejected")]
    (prompt, chosen), (_, rejected) = sides
    return Pair(row["id"], prompt, chosen, rejected)


def collate(features: list[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """A batch: the chosen conversations, then the rejected ones, laid out for `tunesmith.prefix`.

    input_ids, attention_mask and completion_mask, (2 x pairs, tokens), and what else a pair brings, (pairs).
    """
    prompts, prompt_mask = padded([feature["prompt_ids"] for feature in features] * 2, pad, left=True)
    said = [feature[side] for side in ("chosen_ids", "rejected_ids") for feature in features]
    answers, answer_mask = padded(said, pad, left=False)
    others = {name: torch.tensor([f[name] for f in features]) for name in REFERENCE if name in features[0]}
    return {
        "input_ids": torch.cat([prompts, answers], 1),
        "attention_mask": torch.cat([prompt_mask, answer_mask], 1),
        "completion_mask": torch.cat([torch.zeros_like(prompt_mask), answer_mask], 1),
        **others,
    }


def shared(model: Any, inputs: dict[str, Tensor]) -> SharedPrompts:
    """``model``, computing the prompt of both sides of a pair once."""
    begins = int(inputs["completion_mask"].any(0).int().argmax())
    return SharedPrompts(model, inputs["input_ids"].shape[1] - begins)


def columns(given: list[Pair]) -> dict[str, list[Any]]:
    """What `collate` and TRL's sampler read."""
    return {
        "id": [pair.id for pair in given],
        "length": [pair.length for pair in given],
        "prompt_ids": [pair.prompt for pair in given],
        "chosen_ids": [pair.chosen for pair in given],
        "rejected_ids": [pair.rejected for pair in given],
    }


def collator(pad: int) -> Named:
    """`collate`, remembering the rows of every batch."""
    return Named(lambda features: collate(features, pad), lambda feature: [feature["id"]])


def log_probs(policy: OpenModel, pairs: list[Pair], batch_size: int) -> list[tuple[float, float]]:
    """Of the chosen and of the rejected completion of every pair, in nats."""
    examples = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    found = [likelihood.log_prob for likelihood in likelihoods(policy, examples, batch_size=2 * batch_size)]
    return list(zip(found[::2], found[1::2], strict=True))


def implicit_preference(
    now: list[tuple[float, float]], reference: list[tuple[float, float]], beta: float
) -> Preference:
    """By DPO's implicit reward, beta times the log-ratio to the reference (Rafailov et al. 2023, eq. 5).

    The reference itself prefers nothing: every pair is a tie, which counts half.
    """
    chosen, rejected = (
        [beta * (after[side] - before[side]) for after, before in zip(now, reference, strict=True)] for side in (0, 1)
    )
    likelier = fmean(better > worse for better, worse in now)
    return soundness.preference(chosen, rejected, likelier=likelier)
