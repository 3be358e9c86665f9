"""Attention for packed sequences: on a CPU each row alone, at its own length; and a proof that rows do not meet.

Packed rows attend only within themselves. torch's fused attention needs a mask for that, and computes everything the
mask throws away: for eight rows of 128 tokens, eight times the work. FlashAttention, which takes the offsets of the
rows, runs on GPUs only.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "row_by_row"
COMPARED = 64
"""Tokens at a row's end whose logits are compared."""
TOLERATED, TOLERATED_IN_HALF = 1e-3, 0.1
"""Greatest difference of the logits, as a share of their spread, in 32 bits and in fewer."""


def use_row_by_row(model: PreTrainedModel) -> None:
    """Set ``model`` to attend row by row on batches that give the offsets of packed rows; others stay as they were.

    A model whose attention torch's does not compute, such as one with soft caps, keeps its own, under a mask.
    """
    try:
        model.set_attn_implementation("sdpa")
    except ValueError:
        return
    AttentionInterface.register(NAME, row_by_row)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def row_by_row(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    sliding_window: int | None = None,
    **settings: object,
) -> tuple[Tensor, None]:
    """Causal attention within rows. query: (1, heads, tokens, head_dim); key and value may have fewer heads.

    cu_seq_lens_q: offsets of the rows and of their end, (rows + 1); without it, torch's attention under the mask.
    sliding_window: tokens that a token sees, itself included; a longer row attends under its part of the mask.
    Returns (1, tokens, heads, head_dim).
    """
    if cu_seq_lens_q is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output, None
    outputs = []
    for begin, end in pairwise(cu_seq_lens_q.tolist()):
        q, k, v = (tensor[:, :, begin:end] for tensor in (query, key, value))
        limited = attention_mask is not None and sliding_window is not None and end - begin > sliding_window
        mask = attention_mask[:, :, begin:end, begin:end] if attention_mask is not None and limited else None
        outputs.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=not limited, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1), None


@torch.no_grad()
def packs_exactly(model: torch.nn.Module, packed: Mapping[str, Any], row: Sequence[int]) -> bool:
    """Whether the last of packed rows gets the logits that it gets alone, up to the rounding of the model's dtype.

    packed: a batch as a trainer makes it, whose last row is ``row``, as token ids. A model that carries a state over
    all of its input, for one, does not.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    device, was_training = parameters[0].device, model.training
    together = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in packed.items()
        if name != "labels"
    }
    model.eval()
    try:
        meeting, alone = (
            model(**inputs, use_cache=False, logits_to_keep=COMPARED).logits[0, -len(row) :].float()
            for inputs in (together, {"input_ids": torch.tensor([row], device=device)})
        )
    except ValueError:  # of a layer that keeps packed rows apart with a library that is not installed
        return False
    finally:
        model.train(was_training)
    tolerated = TOLERATED if {parameter.dtype for parameter in parameters} == {torch.float32} else TOLERATED_IN_HALF
    return bool((meeting - alone).norm() <= tolerated * (alone - alone.mean(dim=-1, keepdim=True)).norm())
