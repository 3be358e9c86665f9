"""Compute a prompt once for all the completions that follow it.

TRL's trainers forward every completion with its whole prompt, so that a pair pays for its prompt twice and a group of
eight rollouts eight times. Here conversations come as prompts padded on the left, (batch, prompt), beside completions
padded on the right, (batch, completion): every completion begins in the same column, and a key-value cache made from
each different prompt once serves all rows. Gradients flow through the cache; results are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer

PER_TOKEN = ("log_probs", "entropy", "mean_logits", "is_top1")
"""What TRL's fused head returns for every token, (batch, tokens - 1)."""


class SharedPrompts:
    """A model, called as TRL's trainers call it, that computes prompts that are alike once.

    completion: columns of the completions. Where it cannot share (a layer with a sliding window, gradient
    checkpointing, which has no use for a cache, or prompts of one token) it is the plain model.
    """

    def __init__(self, model: Any, completion: int) -> None:
        self.model, self.completion = model, completion

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Any:
        """With ``labels``, per-token outputs are as wide as the plain model's, zero for the prompt."""
        begins = input_ids.shape[1] - self.completion - 1  # the last token of a prompt predicts a completion's first
        places = positions(attention_mask)
        cache = prompt_cache(self.model, input_ids[:, :begins], attention_mask[:, :begins])
        if cache is None:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=places, **settings)
        if "labels" in settings:
            settings["labels"] = settings["labels"][:, begins:]
        output = self.model(
            input_ids=input_ids[:, begins:],
            attention_mask=attention_mask,
            position_ids=places[:, begins:],
            past_key_values=cache,
            **settings,
        )
        for name in PER_TOKEN:
            if getattr(output, name, None) is not None:
                setattr(output, name, pad(getattr(output, name), (begins, 0)))
        return output


@contextmanager
def one_product(model: Any) -> Iterator[None]:
    """Where the last hidden states of a batch meet the output head, multiply once.

    They are a slice. torch 2.13 then multiplies row by row, each with a copy of the whole weight, unless that requires
    a gradient (`should_fold` in ATen's LinearAlgebra.cpp), which under an adapter it does not: 32 rows of SmolLM2-135M
    copied 1.8 GB and took three times as long. No gradient is computed: this is for inference.
    """
    weight = model.get_output_embeddings().weight
    required = weight.requires_grad
    weight.requires_grad_(True)
    try:
        yield
    finally:
        weight.requires_grad_(required)


def prompt_cache(model: Any, ids: Tensor, mask: Tensor) -> DynamicCache | None:
    """Keys and values of every row of ``ids``, (batch, tokens), computed once for rows that are alike.

    None where they cannot be shared.
    """
    if not ids.shape[1] or (model.training and getattr(model, "is_gradient_checkpointing", False)):
        return None
    cache = DynamicCache(config=model.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    unique, row = torch.unique(torch.cat([ids, mask], dim=1), dim=0, return_inverse=True)
    prompts, attended = unique.chunk(2, dim=1)
    _backbone(model)(
        input_ids=prompts, attention_mask=attended, position_ids=positions(attended), past_key_values=cache
    )
    cache.batch_select_indices(row)
    return cache


def positions(mask: Tensor) -> Tensor:
    """Position ids under a mask with padding on either side, (batch, tokens)."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _backbone(model: Any) -> Any:
    """The model without its head: a cache needs no logits."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return whole.base_model
