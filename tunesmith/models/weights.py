"""Which weights are trained: a LoRA adapter, an adapter on a 4-bit base (QLoRA), or all of them.

With ``lora`` and ``qlora`` the base must not change; with ``full`` it must. Digests of every tensor, taken before and
after a training, show which did.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import BitsAndBytesConfig, PreTrainedModel

from tunesmith.core.params import WeightsKind
from tunesmith.models.device import Profile
from tunesmith.models.settings import Lora

HEADS = ("lm_head", "score")
"""Output layers: never quantized, never given an adapter."""


def quantization(profile: Profile) -> BitsAndBytesConfig:
    """NF4 with double quantization (Dettmers et al. 2023, section 3); products are computed in the profile's dtype."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=profile.dtype,
        llm_int8_skip_modules=list(HEADS),
    )


def loading_profile(profile: Profile, kind: WeightsKind) -> Profile:
    """The profile to load weights with: ``full`` trains in float32, and computes in the original profile's dtype."""
    return replace(profile, dtype=torch.float32) if kind == "full" else profile


def make_trainable_float32(model: torch.nn.Module) -> None:
    """Hold trainable weights in float32: bfloat16 rounds away updates of less than 1/256 of a weight."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


@contextmanager
def preserve_trainable(model: torch.nn.Module) -> Iterator[None]:
    """Restore trainable weights after a TRL trainer is built, which rounds a QLoRA adapter to bfloat16."""
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before and parameter.dtype != before[name].dtype:
            parameter.data = before[name]


def keep_quantized(model: torch.nn.Module) -> None:
    """Keep bitsandbytes 0.50 from repacking 4-bit weights on a CPU with AVX512-BF16.

    The first forward in evaluation mode, such as an answer to a probe, would replace them for good by a packed form
    with scales rounded to bfloat16: the base would change under the adapter.
    """
    from bitsandbytes.nn.modules import Linear4bit  # takes seconds to import, and only QLoRA needs it

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def add_lora(model: PreTrainedModel, lora: Lora, *, task: TaskType = TaskType.CAUSAL_LM) -> PeftModel:
    """``model`` frozen, with a fresh adapter; its initial values follow torch's seed.

    For a reward model (``TaskType.SEQ_CLS``), the scoring head is trained in full and saved with the adapter.
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


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def digests(model: torch.nn.Module, *, trained: bool) -> dict[str, str]:
    """SHA-256, in hex, of every trainable parameter, or of every frozen one, by name."""
    return {
        name: hashlib.sha256(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data).hexdigest()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad is trained
    }


def count_parameters(model: PreTrainedModel | PeftModel) -> tuple[int, int]:
    """(trainable, all). A 4-bit weight counts as the parameters it stands for; a reference adapter does not count."""
    if isinstance(model, PeftModel):
        trainable, total = model.get_nb_trainable_parameters()
        reference = sum(parameter.numel() for name, parameter in model.named_parameters() if ".ref." in name)
        return int(trainable), int(total) - reference
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trains in counts if trains), sum(count for count, _ in counts)
