"""Which weights move: a LoRA adapter, an adapter on a 4-bit base (QLoRA), or all of them.

With ``lora`` and ``qlora`` the base must not move; with ``full`` it must. Digests of every tensor, taken before and
after a training, say which did.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias, get_args

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from pydantic import Field, PositiveFloat, PositiveInt
from transformers import BitsAndBytesConfig, PreTrainedModel

from tunesmith.core.params import Section
from tunesmith.models.device import Profile

Kind: TypeAlias = Literal["lora", "qlora", "full"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES: dict[Kind, str] = {"lora": "with LoRA", "qlora": "with QLoRA", "full": "of all weights"}
"""How people write each kind of weights, after the objective."""

HEADS = ("lm_head", "score")
"""Output layers: never quantized, never given an adapter."""


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021) of every linear layer but the output head."""

    rank: PositiveInt
    alpha: PositiveInt
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """In SFT; the other objectives train without, as TRL has it."""


class Rates(Section):
    """The peak learning rate for each kind of weights: an adapter bears ten times what all weights do."""

    lora: PositiveFloat
    qlora: PositiveFloat
    full: PositiveFloat

    def of(self, kind: Kind) -> float:
        rate: float = getattr(self, kind)
        return rate


def quantization(profile: Profile) -> BitsAndBytesConfig:
    """NF4 with double quantization (Dettmers et al. 2023, section 3); products are computed in the profile's dtype."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=profile.dtype,
        llm_int8_skip_modules=list(HEADS),
    )


def precise(profile: Profile, kind: Kind) -> Profile:
    """What to load weights for: all weights are trained in float32, and computed with in the profile's dtype."""
    return replace(profile, dtype=torch.float32) if kind == "full" else profile


def make_precise(model: torch.nn.Module) -> None:
    """Hold in float32 what is trained: bfloat16 rounds away updates of less than 1/256 of a weight."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


@contextmanager
def kept_precise(model: torch.nn.Module) -> Iterator[None]:
    """Undo what TRL's trainers do to a QLoRA adapter while they are made: they round it to bfloat16."""
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before and parameter.dtype != before[name].dtype:
            parameter.data = before[name]


def keep_quantized(model: torch.nn.Module) -> None:
    """Forbid bitsandbytes 0.50 to repack 4-bit weights on a CPU with AVX512-BF16.

    There the first forward in evaluation mode, such as an answer to a probe, would replace them for good by a packed
    form with scales rounded to bfloat16: the base would move under the adapter.
    """
    from bitsandbytes.nn.modules import Linear4bit  # seconds to import, which only QLoRA pays

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def add_lora(model: PreTrainedModel, lora: Lora, *, task: TaskType = TaskType.CAUSAL_LM) -> PeftModel:
    """``model`` frozen, with a fresh adapter; its initial values follow torch's seed.

    For a reward model (``TaskType.SEQ_CLS``), the head that scores is trained whole and saved with the adapter.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type=task,
    )
    wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def digests(model: torch.nn.Module, *, trained: bool) -> dict[str, str]:
    """SHA-256, in hex, of every parameter that trains, or of every one that must not."""
    return {
        name: hashlib.sha256(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data).hexdigest()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad is trained
    }


def count_parameters(model: PreTrainedModel | PeftModel) -> tuple[int, int]:
    """(trainable, all); a 4-bit weight counts as the parameters that it stands for, a reference adapter not at all."""
    if isinstance(model, PeftModel):
        trainable, total = model.get_nb_trainable_parameters()
        reference = sum(each.numel() for name, each in model.named_parameters() if ".ref." in name)
        return int(trainable), int(total) - reference
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trains in counts if trains), sum(count for count, _ in counts)
