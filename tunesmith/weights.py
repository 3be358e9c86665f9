"""Which weights move: LoRA adapters on a frozen base."""

import hashlib
from typing import Annotated

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field, PositiveInt
from transformers import PreTrainedModel

from tunesmith.params import Section

NAMES = {"lora": "LoRA"}
"""How people write each kind of weights."""


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021) of every linear layer but the output head."""

    rank: PositiveInt
    alpha: PositiveInt
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)]


def add_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """``model`` frozen, with fresh adapters; their initial values follow torch's seed."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def frozen_digest(model: PeftModel) -> str:
    """SHA-256, in hex, over every parameter that must not move."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def count_parameters(model: PeftModel) -> tuple[int, int]:
    """(trainable, all)."""
    trainable, total = model.get_nb_trainable_parameters()
    return int(trainable), int(total)
