"""Compute a prompt once for all the completions that follow it.

TRL's trainers forward every completion with its whole prompt, so that a pair computes its prompt twice and a group of
eight rollouts eight times. Here a batch is prompts padded on the left, (batch, prompt), beside completions padded on
the right, (batch, completion): all completions begin in the same column, and one key-value cache, in which each unique
prompt is computed once, serves all rows. Gradients flow through the cache; results are the same.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from tunesmith.models import collectives
from tunesmith.models.attention.packed_attention import attends_packed, backbone
from tunesmith.models.attention.unpadded_rows import PER_TOKEN, UnpaddedRows
from tunesmith.models.images.forward import positions

CACHE = ("past_key_values", "cache")[
    "cache" in inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
]
"""The argument of a model, and of its `generate`, that takes a cache: transformers 5.24 renamed it."""


class SharedPrompts:
    """A model, called as TRL's trainers call it, that computes identical prompts once.

    completion: columns of the completions. Where prompts cannot be shared (a layer with a sliding window, gradient
    checkpointing, which cannot use a cache, prompts of one token, or weights that are divided among processes, which
    only a pass through the whole model puts together) or should not be (`fewer_tokens`, and the loss that balances
    experts, which is over all tokens), rows are computed without padding (`UnpaddedRows`).

    DDP averages the gradient of a weight once the backward pass has summed all of it, that of the prompts included:
    they may be computed by the model that it wraps.
    """

    def __init__(self, model: Any, completion: int) -> None:
        self.model, self.completion = model, completion
        self.own = model.module if isinstance(model, DistributedDataParallel) else model

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Any:
        """The model's output. Per-token outputs, which ``labels`` asks for, keep their width: zeros for the prompt."""
        begin = input_ids.shape[1] - self.completion - 1  # a prompt's last token predicts the completion's first
        position_ids = positions(backbone(self.own), input_ids, attention_mask)
        balanced = settings.get("output_router_logits", False)
        if balanced or not self.shares(input_ids, attention_mask):
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
            return UnpaddedRows(self.model)(**inputs, **settings)
        cache = prompt_cache(self.own, input_ids[:, :begin], attention_mask[:, :begin])
        if "labels" in settings:
            settings["labels"] = settings["labels"][:, begin:]
        output = self.model(
            input_ids=input_ids[:, begin:],
            attention_mask=attention_mask,
            position_ids=position_ids[..., begin:],
            **{CACHE: cache},
            **settings,
        )
        for name in PER_TOKEN:
            if getattr(output, name, None) is not None:
                setattr(output, name, pad(getattr(output, name), (begin, 0)))
        return output

    def shares(self, input_ids: Tensor, attention_mask: Tensor) -> bool:
        """Whether prompts of this batch can be shared, and should be."""
        begin = input_ids.shape[1] - self.completion - 1
        if _empty_cache(self.own, begin) is None:
            return False
        if not attends_packed(self.own):
            return True
        unique = _unique(input_ids[:, :begin], attention_mask[:, :begin])[0]
        shared = unique.shape[0] * begin + input_ids.shape[0] * (self.completion + 1)
        return fewer_tokens(shared, int(attention_mask.sum()), input_ids.device.type)


def fewer_tokens(shared: int, unpadded: int, device: str) -> bool:
    """Whether a batch with shared prompts computes so many tokens fewer than without padding that it is faster.

    On a CPU, where a token costs about the same either way, any fewer. On a GPU half: what shares a cache attends
    under a mask, outside of FlashAttention, and copies the cache for every row. So pairs are computed without padding
    there, and groups of rollouts share a prompt that is longer than their answers.
    """
    return shared <= (unpadded if device == "cpu" else unpadded // 2)


@contextmanager
def single_head_product(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Multiply the last hidden states of a whole batch by the output head at once, in inference.

    They are a slice, which torch 2.13 multiplies row by row, each with a copy of the whole weight, unless the weight
    requires a gradient (`should_fold` in ATen's LinearAlgebra.cpp); under an adapter it does not. On a CPU 32 rows of
    SmolLM2-135M copied 1.8 GB and took three times as long; a GPU multiplies without a copy, and is left alone. No
    gradient is computed here.
    """
    weight = model.get_output_embeddings().weight
    if weight.device.type != "cpu" or collectives.is_sharded(model):
        yield
        return
    required = weight.requires_grad
    weight.requires_grad_(True)
    try:
        yield
    finally:
        weight.requires_grad_(required)


def prompt_cache(model: PreTrainedModel | PeftModel, ids: Tensor, mask: Tensor) -> DynamicCache | None:
    """Keys and values of every row of ``ids``, (batch, tokens), computed once for identical rows.

    None where the model or the tokens do not allow it (see `SharedPrompts`).
    """
    cache = _empty_cache(model, ids.shape[1])
    if cache is None:
        return None
    unique, row = _unique(ids, mask)
    prompts, attended = unique.chunk(2, dim=1)
    position_ids = positions(backbone(model), prompts, attended)
    backbone(model)(input_ids=prompts, attention_mask=attended, position_ids=position_ids, **{CACHE: cache})
    cache.batch_select_indices(row)
    return cache


def _empty_cache(model: PreTrainedModel | PeftModel, tokens: int) -> DynamicCache | None:
    """A cache for prompts of ``tokens`` tokens, or None where there can be none (see `SharedPrompts`)."""
    recomputes = model.training and getattr(model, "is_gradient_checkpointing", False)
    if not tokens or recomputes or collectives.is_sharded(model):
        return None
    cache = DynamicCache(config=model.config)
    return cache if all(type(layer) is DynamicLayer for layer in cache.layers) else None


def _unique(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of token ids beside their mask, (unique, 2 x tokens), and which of them each row is."""
    unique, row = torch.unique(torch.cat([ids, mask], dim=1), dim=0, return_inverse=True)
    return unique, row
