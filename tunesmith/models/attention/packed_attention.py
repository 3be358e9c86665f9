"""Attention for packed sequences, by the offsets of their rows and without a mask; and a proof that rows do not meet.

Packed rows attend only within themselves. torch's fused attention needs a mask for that, and computes all that the mask
throws away: for eight rows, eight times the work. Here the rows' offsets take its place: on a GPU in torch's kernel for
rows of different lengths (FlashAttention 2, as in the package flash-attn), elsewhere row by row. A model with soft caps
or sinks, which neither computes, attends row by row in its own way.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from tunesmith.models.images import forward

NAME, OWN_NAME = "packed_rows", "packed_rows_in_its_own_way"
"""The names in transformers' interface of `attention` and `own_attention`."""
LAYERS = {"full_attention", "sliding_attention", "linear_attention", "conv", "mamba"}
"""Kinds of layers that attend here, or do not attend. Others see a part of their row that only their mask knows."""
HALF = (torch.float16, torch.bfloat16)
KERNEL_HEAD, KERNEL_STEP, KERNEL_CAPABILITY = 256, 8, (8, 0)
"""What torch's kernel takes: heads of up to 256 numbers, a multiple of 8, on an Ampere or later GPU."""
SHORT = 512
"""Tokens over which attention on a CPU is faster in float32 than in bfloat16, at most."""
COMPARED = 64
"""Tokens at a row's end whose logits are compared."""
TOLERATED, TOLERATED_IN_HALF = 1e-3, 0.1
"""Greatest difference of the logits, as a share of their spread, in 32 bits and in fewer."""

_attends: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()
"""The answers of `attend_packed`, which holds for a model as long as it lives."""


def attend_packed(model: PreTrainedModel | PeftModel) -> bool:
    """Set ``model`` to attend within rows on batches of `packed`, and say whether it does; others stay as they were.

    A model stays as it was where a layer sees part of a row in a way that is not known here, or where two rows that are
    packed together change each other.
    """
    if model not in _attends:
        _attends[model] = attends_packed(model) or _set(model)
    return _attends[model]


def attends_packed(model: torch.nn.Module) -> bool:
    """Whether a model, also one inside a wrapper such as DDP's, was set to attend by `attend_packed`."""
    config: Any = getattr(getattr(model, "module", model), "config", None)
    return config is not None and config.get_text_config()._attn_implementation in (NAME, OWN_NAME)


def _set(model: PreTrainedModel | PeftModel) -> bool:
    config = model.config.get_text_config()
    if not set(getattr(config, "layer_types", None) or []) <= LAYERS:
        return False
    if forward.sees_both_ways(backbone(model)):
        return False
    before = model.config._attn_implementation
    for name, function, mask in ((NAME, attention, sdpa_mask), (OWN_NAME, own_attention, eager_mask)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, mask)
    try:
        model.set_attn_implementation("sdpa")
        model.set_attn_implementation(_of_language(model, NAME))
    except ValueError:  # torch's attention does not compute this model's
        model.set_attn_implementation(_of_language(model, OWN_NAME))
    if not attends_packed(model):
        return False
    hook = backbone(model).register_forward_pre_hook(_without_mask, with_kwargs=True)
    rows = [[number % config.vocab_size for number in range(begin, end)] for begin, end in ((1, 12), (12, 31))]
    if packs_exactly(model, packed(rows), rows[-1]):
        return True
    hook.remove()
    model.set_attn_implementation(before)
    return False


def _of_language(model: PreTrainedModel | PeftModel, name: str) -> str | dict[str, str]:
    """The setting that names an attention for the language model alone: a tower that sees does not attend by rows."""
    config: Any = model.config
    text = config.get_text_config()
    parts = {part: name for part in config.sub_configs if getattr(config, part, None) is text}
    return parts or name


def _without_mask(model: torch.nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
    """Keep transformers from building a mask over packed rows: a mask with four dimensions it hands on as it is.

    This one is empty, so that a layer that loses the offsets on the way fails instead of attending to other rows.
    """
    offsets = inputs.get("cu_seq_lens_q")
    if offsets is None:
        return None
    return args, inputs | {"attention_mask": offsets.new_empty((1, 1, 0, 0), dtype=torch.bool)}


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Causal attention within rows. query: (1, heads, tokens, head_dim); key and value may have fewer heads.

    cu_seq_lens_q: offsets of the rows and of their end, (rows + 1); without it, torch's attention under the mask.
    max_length_q: tokens of the longest row. sliding_window: tokens that a token sees, itself included.
    Returns (1, tokens, heads, head_dim). Raises ValueError for what torch's attention cannot compute.
    """
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if settings.get(name) is not None]
    if unknown:
        raise ValueError(f"torch's attention does not compute {', '.join(unknown)}")
    if cu_seq_lens_q is None and attention_mask is not None and not attention_mask.numel():
        raise ValueError("a layer received packed rows without their offsets")
    if cu_seq_lens_q is None:
        return _fused(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings), None
    if not getattr(module, "is_causal", True):
        raise ValueError("a layer attends to what follows a token, too")
    dtype = _computed_in(value)
    if dropout == 0 and _kernel_takes(query, value, dtype):
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
        longest = max_length_q or int(cu_seq_lens_q.diff().max())
        return by_offsets(query, key, value, cu_seq_lens_q, longest, scaling, sliding_window), None
    outputs, lengths = [], cu_seq_lens_q.diff().tolist()
    tensors = (torch.split(tensor, lengths, dim=2) for tensor in (query, key, value))
    for length, q, k, v in zip(lengths, *tensors, strict=True):
        limited = sliding_window is not None and length > sliding_window
        mask = _band(length, sliding_window or length, query.device) if limited else None
        outputs.append(_fused(module, q, k, v, mask, dropout=dropout, scaling=scaling))
    return torch.cat(outputs, dim=1), None


def _fused(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
) -> Tensor:
    """torch's fused attention; on a CPU over up to `SHORT` tokens it is computed in float32.

    There the kernel's backward pass converts every tile from bfloat16: over rows of 32 to 133 tokens, both passes
    took 2.2 times as long as in float32 (torch 2.13, one core with AVX512-BF16), over 512 tokens as long.
    """
    if query.device.type != "cpu" or key.shape[2] > SHORT or (mask is not None and mask.dtype != torch.bool):
        output: Tensor = sdpa_attention_forward(module, query, key, value, mask, **settings)[0]
        return output
    with torch.autocast("cpu", enabled=False):
        output = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **settings)[0]
    return output.to(query.dtype)


def own_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor | None = None,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """`attention` for a model with soft caps or sinks: the plain attention of its own module, row by row.

    Its products are in memory, as many as the squares of the rows' lengths. Raises ValueError where the module has no
    such function.
    """
    plain = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if plain is None:
        raise ValueError(f"{type(module).__module__} has no plain attention")
    if cu_seq_lens_q is None:
        output, weights = plain(module, query, key, value, attention_mask, sliding_window=sliding_window, **settings)
        return output, weights
    outputs = []
    for begin, end in pairwise(cu_seq_lens_q.tolist()):
        q, k, v = (tensor[:, :, begin:end] for tensor in (query, key, value))
        seen = _band(end - begin, sliding_window or end - begin, query.device)
        hidden = torch.zeros(seen.shape, dtype=query.dtype, device=query.device)
        hidden = hidden.masked_fill(~seen, torch.finfo(query.dtype).min)
        outputs.append(plain(module, q, k, v, hidden, **settings)[0])
    return torch.cat(outputs, dim=1), None


def by_offsets(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
    *,
    kernel: Callable[..., Any] = varlen_attn,
) -> Tensor:
    """`attention` in one call of torch's kernel for rows of different lengths, which keeps no mask in memory.

    kernel: takes (tokens, heads, head_dim). Its windows count the tokens before a token, ours count that token too.
    """
    limited = sliding_window is not None and sliding_window < longest
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    output: Tensor = kernel(
        q,
        k,
        v,
        offsets,
        offsets,
        longest,
        longest,
        scale=scaling,
        window_size=(sliding_window - 1 if limited and sliding_window is not None else -1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return output[None]


def _computed_in(value: Tensor) -> torch.dtype:
    """The dtype of products: autocast's, which reaches torch's attention, but not the kernel for different lengths."""
    kind = value.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype


def _kernel_takes(query: Tensor, value: Tensor, dtype: torch.dtype) -> bool:
    """Whether torch's kernel computes this (checks of `mha_varlen_fwd` and `mha_varlen_bwd` in torch 2.13's ATen)."""
    head = query.shape[-1]
    return (
        query.is_cuda
        and dtype in HALF
        and head <= KERNEL_HEAD
        and head % KERNEL_STEP == 0
        and value.shape[-1] == head
        and torch.cuda.get_device_capability(query.device) >= KERNEL_CAPABILITY
    )


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """The mask of one row in which a token sees ``window`` tokens, itself included: (1, 1, length, length)."""
    place = torch.arange(length, device=device)
    distance = place[:, None] - place
    return ((distance >= 0) & (distance < window))[None, None]


def packed(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Rows of token ids as one packed sequence, with what its layers need to keep them apart."""
    ids = torch.tensor([[token for row in rows for token in row]], device=device)
    return {"input_ids": ids} | layout([len(row) for row in rows], device)


def layout(lengths: Sequence[int], device: torch.device | str) -> dict[str, Any]:
    """The arguments that tell a model where rows of ``lengths`` tokens lie in a packed sequence, as TRL's collator
    names them: positions, offsets for attention, and row numbers for convolutions.
    """
    rows = torch.tensor(lengths)
    ends = rows.cumsum(0)
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), rows)
    places = torch.arange(int(ends[-1])) - (ends - rows)[numbers]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int32), ends.int()]).to(device)
    return {
        "position_ids": places[None].to(device),
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "seq_idx": numbers[None].int().to(device),
    }


@torch.no_grad()
def packs_exactly(model: torch.nn.Module, together: Mapping[str, Any], row: Sequence[int]) -> bool:
    """Whether the last of packed rows gets the logits that it gets alone, up to the rounding of the model's dtype.

    together: a batch as `packed` or a trainer makes it, whose last row is ``row``, as token ids. A model that carries
    a state over all of its input, for one, does not. On a GPU both are computed as in training, in bfloat16.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    device, was_training = parameters[0].device, model.training
    batch = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in together.items()
        if name != "labels"
    }
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            meeting, alone = (
                model(**inputs, use_cache=False, logits_to_keep=COMPARED).logits[0, -len(row) :].float()
                for inputs in (batch, {"input_ids": torch.tensor([row], device=device)})
            )
    except ValueError:  # of a layer that keeps packed rows apart with a library that is not installed
        return False
    finally:
        model.train(was_training)
    exact = device.type != "cuda" and {parameter.dtype for parameter in parameters} == {torch.float32}
    tolerated = TOLERATED if exact else TOLERATED_IN_HALF
    return bool((meeting - alone).norm() <= tolerated * (alone - alone.mean(dim=-1, keepdim=True)).norm())


def backbone(model: torch.nn.Module) -> torch.nn.Module:
    """The model without its output head and without the wrapper of its adapters."""
    full: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    inner: torch.nn.Module = full.base_model
    return inner
