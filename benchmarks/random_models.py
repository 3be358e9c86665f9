"""Models of a known shape with random weights, for benchmarks of speed and memory: nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from tunesmith.core.params import WeightsKind
from tunesmith.models import weights
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.settings import Lora
from tunesmith.planning import model_shape

SPECIAL = ("<pad>", "<s>", "</s>")
STD = 0.02
"""Deviation of random weights: that of Llama's initialization."""


def policy(model: str, kind: WeightsKind, profile: Profile, lora: Lora) -> OpenModel:
    """A policy of the shape of ``model`` (`model_shape.build`), quantized layer by layer as the layers are made."""
    profile = weights.loading_profile(profile, kind)
    made: Any = model_shape.build(model).to(profile.dtype)
    head = made.get_output_embeddings()
    if kind == "qlora":
        for name, layer in [*made.named_modules()]:
            if type(layer) is torch.nn.Linear and layer is not head:
                made.set_submodule(name, _quantized(layer, profile))
        made.is_loaded_in_4bit = True
    for module in made.modules():
        _fill(module, profile)
    made.tie_weights()
    made = weights.add_lora(made, lora) if kind != "full" else made.requires_grad_(True)
    weights.make_trainable_float32(made)
    return opened(made, tokenizer(), profile)


def opened(model: Any, words: PreTrainedTokenizerFast, profile: Profile) -> OpenModel:
    """``model`` as trainers take it. It has no manifests, which describe folders."""
    nothing: Any = None
    return OpenModel(model, words, nothing, nothing, Path(), profile)


def _quantized(layer: torch.nn.Linear, profile: Profile) -> torch.nn.Module:
    from bitsandbytes.nn import Linear4bit

    quantized = Linear4bit(
        layer.in_features,
        layer.out_features,
        layer.bias is not None,
        compute_dtype=profile.dtype,
        quant_type="nf4",
        device=profile.device,
    )
    for parameter in quantized.parameters():
        torch.nn.init.normal_(parameter.data, std=STD)
    made: torch.nn.Module = quantized.to(profile.dtype).to(profile.device)  # moving to its device quantizes it
    return made


def _fill(module: Any, profile: Profile) -> None:
    """Give a module's meta tensors values: small random weights, norms of one, buffers as they are built."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.is_meta:
            value = torch.empty(parameter.shape, dtype=parameter.dtype, device=profile.device)
            torch.nn.init.normal_(value, std=STD) if parameter.ndim > 1 else torch.nn.init.ones_(value)
            module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
        built = type(module)(module.config)  # rotary embeddings compute their buffers from the config
        for name, buffer in built.named_buffers(recurse=False):
            module.register_buffer(name, buffer.to(profile.device), persistent=False)


def tokenizer(words: int = 0) -> PreTrainedTokenizerFast:
    """A tokenizer of special tokens and ``words`` words, w3 for token 3 and so on, with a template that adds nothing.

    Rows are tokens already, and most trainers need only the padding and the end; GRPO renders prompts of words.
    """
    tokens = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), words))]
    model = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=SPECIAL[0]))
    model.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )
