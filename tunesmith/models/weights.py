"""Which weights are trained: a LoRA adapter, an adapter on a 4-bit base (QLoRA), or all of them.

With ``lora`` and ``qlora`` the base must not change; with ``full`` it must. Digests of every tensor, taken before and
after a training, show which did.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from torch import Tensor
from torch.nn.functional import pad
from transformers import BitsAndBytesConfig, PreTrainedModel

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import WeightsKind, meant
from tunesmith.models import collectives
from tunesmith.models.device import Profile
from tunesmith.models.images import vision_parts
from tunesmith.models.settings import FROM_WEIGHTS, Init, Lora, Vision

HEADS = ("lm_head", "score")
"""Output layers: never quantized, never given an adapter."""
FACTORS = (".lora_A.weight", ".lora_B.weight")
"""The ends of the names of an adapter's tensors."""
INITS: dict[Init, bool | str] = {
    "default": True,
    "gaussian": "gaussian",
    "pissa": "pissa_niter_16",
    "olora": "olora",
    "orthogonal": "orthogonal",
}
"""peft's names of initial values. PiSSA's singular vectors are found in 16 iterations (Halko et al. 2011), as its
authors do for large models, where a full decomposition takes long."""


def quantization(profile: Profile, *, also_whole: Sequence[str] = ()) -> BitsAndBytesConfig:
    """NF4 with double quantization (Dettmers et al. 2023, section 3); products are computed in the profile's dtype.

    also_whole: names of modules that are not quantized, beside the output layers.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=profile.dtype,
        llm_int8_skip_modules=[*HEADS, *also_whole],
    )


def loading_profile(profile: Profile, kind: WeightsKind) -> Profile:
    """The profile to load weights with: ``full`` trains in float32, and computes in the original profile's dtype."""
    return replace(profile, dtype=torch.float32) if kind == "full" else profile


def make_trainable_float32(model: torch.nn.Module) -> None:
    """Hold trainable weights in float32: bfloat16 rounds away updates of less than 1/256 of a weight.

    The layers around embeddings that train beside an adapter stay in the dtype that they are in.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    if isinstance(model, PeftModel):
        for module in model.modules():
            if isinstance(module, ModulesToSaveWrapper):
                _keep_dtype_around(module)


def _keep_dtype_around(module: ModulesToSaveWrapper) -> None:
    """Give an embedding the output, and an output head the input, of the dtypes that it had or has now."""
    if isinstance(module.original_module, torch.nn.Embedding):
        dtype = module.original_module.weight.dtype
        module.register_forward_hook(lambda _, inputs, output: output.to(dtype))
    elif isinstance(module.original_module, torch.nn.Linear):
        module.register_forward_pre_hook(lambda head, inputs: (inputs[0].to(head.weight.dtype), *inputs[1:]))


@contextmanager
def preserve_trainable(model: torch.nn.Module) -> Iterator[None]:
    """Restore trainable weights after a TRL trainer is built, which rounds a QLoRA adapter to bfloat16."""
    if not getattr(model, "is_loaded_in_4bit", False):
        yield
        return
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


def add_lora(
    model: PreTrainedModel, lora: Lora, *, task: TaskType = TaskType.CAUSAL_LM, vision: Vision = "frozen"
) -> PeftModel:
    """``model`` frozen, with a fresh adapter; its initial values follow torch's seed.

    For a reward model (``TaskType.SEQ_CLS``), the scoring head is trained in full and saved with the adapter. vision:
    what the adapter is on of the part that sees, beside the language model, in a base that reads images. Raises
    ParamsError where the model lacks a layer that ``lora`` names, or a layer is too small for it.
    """
    _check_targets(model, lora, vision)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        exclude_modules=vision_parts.excluded(model, vision),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=INITS[lora.init],
        modules_to_save=_embeddings(model) if lora.embeddings else None,
        ensure_weight_tying=lora.embeddings and _is_tied(model),
        task_type=task,
    )
    with seeded():
        wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    vision_parts.check_adapted(model, vision)
    if lora.init in FROM_WEIGHTS:
        initial = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        wrapped.taken = {name: values.cpu().clone() for name, values in initial.items() if name.endswith(FACTORS)}
    # A copy, such as TRL makes of the start as its reference, gets these values: it must not take out others.
    wrapped.peft_config["default"].init_lora_weights = True
    return wrapped


@contextmanager
def seeded() -> Iterator[None]:
    """Draw from the start of torch's seed, whatever was drawn before: a model loaded in parts draws differently."""
    with torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed())
        yield


def _check_targets(model: PreTrainedModel, lora: Lora, vision: Vision) -> None:
    """Raise ParamsError where the model lacks a layer that ``lora`` names, or where one is too small for its init."""
    head, trains = model.get_output_embeddings(), vision_parts.trained(model, vision)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and name.split(".")[-1] not in HEADS
        and trains(f"{name}.")
    }
    names = sorted({name.split(".")[-1] for name in layers})
    if lora.targets != "all-linear":
        if unknown := [name for name in lora.targets if name not in names]:
            quoted = ", ".join(map(repr, unknown))
            raise ParamsError(
                f"lora.targets: the model has no linear layer {quoted}{meant(unknown[0], names)}",
                fix=f"name some of {', '.join(names)}, or all-linear",
            )
        layers = {name: module for name, module in layers.items() if name.split(".")[-1] in lora.targets}
    if lora.init in FROM_WEIGHTS:
        size, smallest = min((min(module.weight.shape), name) for name, module in layers.items())
        if lora.rank > size:
            raise ParamsError(
                f"lora.rank: {smallest} has rank {size}, so that init: {lora.init} cannot take {lora.rank} out of it",
                fix=f"lower lora.rank to {size}, leave that layer out of lora.targets, or take init: default",
            )


def _is_tied(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _embeddings(model: PreTrainedModel) -> list[str]:
    """The names of the modules that hold the embedding and, where it has weights of its own, the output head."""
    modules = [model.get_input_embeddings()]
    if (head := model.get_output_embeddings()) is not None and not _is_tied(model):
        modules.append(head)
    return [name.split(".")[-1] for name, module in model.named_modules() if any(module is each for each in modules)]


def is_on_changed_weights(model: PeftModel) -> bool:
    """Whether the adapter's initial values were taken out of the weights under it (`FROM_WEIGHTS`)."""
    return hasattr(model, "taken")


def saved_config(model: PeftModel) -> dict[str, Any]:
    """The config of the adapter as it is saved (`on_unchanged_weights`), in peft's names."""
    config: dict[str, Any] = model.peft_config["default"].to_dict()
    if is_on_changed_weights(model):
        config["r"] *= 2
        config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
    return config


def on_unchanged_weights(model: PeftModel, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an adapter that does on the weights as they were what ``adapter`` does on those of ``model``.

    Since the initial values A₀, B₀ were taken out of them (`is_on_changed_weights`), these are W - s B₀A₀, and with the
    adapter W + s (BA - B₀A₀): a LoRA on W of twice the rank. peft's `path_initial_model_for_weight_conversion` puts the
    factors side by side; here they are multiplied out, since in bfloat16 the rounding of large terms that nearly cancel
    would be as large as what was learned.
    """
    taken: dict[str, Tensor] = model.taken
    tensors = dict(adapter)
    end_a, end_b = FACTORS
    for name in (name for name in taken if name.endswith(end_a)):
        other = name.removesuffix(end_a) + end_b
        tensors[name], tensors[other] = _difference(adapter[name], adapter[other], taken[name], taken[other])
    return tensors


def _difference(a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of BA - B₀A₀: A, whose rows are orthonormal, and B. Shapes: A (rank, in), B (out, rank)."""
    outer, left = torch.linalg.qr(torch.cat([b, -b0.to(b)], dim=1).double())
    inner, right = torch.linalg.qr(torch.cat([a, a0.to(a)], dim=0).double().T)
    u, values, v = torch.linalg.svd(left @ right.T, full_matrices=False)
    rows = 2 * len(a) - len(values)  # more than a small layer has: zeros
    new_a, new_b = pad(v @ inner.T, (0, 0, 0, rows)), pad(outer @ u * values, (0, rows))
    return new_a.to(a).contiguous(), new_b.to(b).contiguous()


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    collectives.reshard(model)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def gathered(model: torch.nn.Module) -> dict[str, Tensor]:
    """The values of the parameters that are trained, by name, whole in every process."""
    return {name: collectives.whole(values.detach()).contiguous() for name, values in trained(model).items()}


def digests(model: torch.nn.Module, *, trained: bool) -> dict[str, str]:
    """SHA-256, in hex, of every trainable parameter, or of every frozen one, by name.

    Of a tensor that processes divide, each digests its own part.
    """
    collectives.reshard(model)
    return {
        name: hashlib.sha256(collectives.own(parameter).cpu().contiguous().view(torch.uint8).numpy().data).hexdigest()
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
