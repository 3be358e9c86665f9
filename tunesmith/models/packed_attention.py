"""Attention for packed sequences on a CPU: each row alone, at its own length.

Packed rows attend only within themselves. torch's fused attention needs a mask for that, and computes everything the
mask throws away: for eight rows of 128 tokens, eight times the work. FlashAttention, which takes the offsets of the
rows, runs on GPUs only.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "row_by_row"


def use_row_by_row(model: PreTrainedModel) -> None:
    """Set ``model`` to attend row by row on batches that give the offsets of packed rows; others stay as they were."""
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
    **settings: object,
) -> tuple[Tensor, None]:
    """Causal attention within rows. query: (1, heads, tokens, head_dim); key and value may have fewer heads.

    cu_seq_lens_q: offsets of the rows and of their end, (rows + 1); without it, torch's attention under the mask.
    Returns (1, tokens, heads, head_dim).
    """
    if cu_seq_lens_q is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output, None
    lengths = cu_seq_lens_q.diff().tolist()
    rows = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in rows
    ]
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1), None
