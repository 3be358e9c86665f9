"""The shape of a model without its weights: counts of parameters and sizes of layers, for predictions.

transformers builds the model from its config on torch's meta device, where tensors have shapes and no storage: the
counts are exact for every architecture that transformers knows, and code that a config brings never runs.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from tunesmith.core.errors import BaseModelError
from tunesmith.core.params import meant
from tunesmith.models.images import vision_parts
from tunesmith.planning import vision
from tunesmith.planning.vision import Vision

FIELDS = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
)
KNOWN: dict[str, tuple[str | int, ...]] = {
    "smollm2-135m": ("llama", 30, 576, 1536, 9, 3, 64, 49152, 8192, True),
    "smollm2-1.7b": ("llama", 24, 2048, 8192, 32, 32, 64, 49152, 8192, True),
    "llama-3.2-1b": ("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, True),
    "llama-2-7b": ("llama", 32, 4096, 11008, 32, 32, 128, 32000, 4096, False),
    "llama-3.1-8b": ("llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, False),
    "llama-3.1-70b": ("llama", 80, 8192, 28672, 64, 8, 128, 128256, 131072, False),
    "mistral-7b-v0.3": ("mistral", 32, 4096, 14336, 32, 8, 128, 32768, 32768, False),
    "qwen2.5-0.5b": ("qwen2", 24, 896, 4864, 14, 2, 64, 151936, 32768, True),
    "qwen2.5-7b": ("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 131072, False),
    "qwen3-8b": ("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 40960, False),
}
"""FIELDS of models that can be planned offline, from their publishers' configs."""


@dataclass(frozen=True)
class Shape:
    """Counts and sizes of a model.

    parameters: of all but tower and projector, tied ones once. linears: (in, out) of every linear layer of the
    language model but the output head. names: theirs, in the same order. vision: None in a model of text.
    lora_rank_1: parameters of LoRA of rank 1. head: parameters of the output head, 0 where it is tied to the embedding.
    intermediate: width of the MLP that a token goes through (of all its experts together). positions: tokens of
    context. stored_bytes: bytes a parameter in the model's files.
    """

    name: str
    parameters: int
    linears: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    lora_rank_1: int
    head: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int
    stored_bytes: int
    vision: Vision | None = None

    @property
    def query_width(self) -> int:
        """Width of the queries of all heads together."""
        return self.heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers, which NF4 quantizes; without biases and without experts kept in one tensor."""
        return sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def embedding(self) -> int:
        """Weights of the token embedding."""
        return self.vocabulary * self.hidden

    def adapted(self, targets: tuple[str, ...]) -> list[tuple[int, int]]:
        """(in, out) of the linear layers that ``targets`` name, as peft matches names; of all where it is empty."""
        if not targets:
            return list(self.linears)
        ends = tuple(f".{target}" for target in targets)
        return [
            size for size, name in zip(self.linears, self.names, strict=True) if name in targets or name.endswith(ends)
        ]

    def lora_parameters(self, rank: int, targets: tuple[str, ...] = ()) -> int:
        """Parameters of A: (rank, in) and B: (out, rank) for every adapted layer (Hu et al. 2021, section 4.1)."""
        return rank * (sum(map(sum, self.adapted(targets))) if targets else self.lora_rank_1)


def read(model: str) -> Shape:
    """The shape of ``model``: a folder with a config.json, such a file, a name in KNOWN, or a hub repository.

    Raises BaseModelError where the config is missing, or transformers cannot build a causal language model from it.
    """
    built = build(model)
    try:
        return from_model(built, name=model)
    except AttributeError as error:
        raise _unusable(model, error) from None


def build(model: str) -> PreTrainedModel:
    """The model itself, on the meta device. The errors are `read`'s."""
    source = model if model.lower() in KNOWN else _config_file(model)
    try:
        with torch.device("meta"):
            config = _config(source)
            sees = getattr(config, "vision_config", None) is not None
            auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            return auto_class.from_config(config, trust_remote_code=False)
    except Exception as error:  # a config can hold anything, and transformers raises errors of any kind
        raise _unusable(model, error) from None


def from_model(model: PreTrainedModel, *, name: str = "") -> Shape:
    """The shape of a transformers model on any device."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    width, heads = config.hidden_size, config.num_attention_heads
    seen, own = vision.read(model), vision_parts.trained(model, "frozen")
    linears: dict[str, tuple[int, int]] = {
        name: module.weight.shape if isinstance(module, Conv1D) else (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and own(f"{name}.")
    }
    tied = head.weight is model.get_input_embeddings().weight
    return Shape(
        name=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()) - (seen.parameters if seen else 0),
        linears=tuple(linears.values()),
        names=tuple(linears),
        lora_rank_1=_lora_rank_1(model, [*linears.values()]),
        head=0 if tied else head.weight.numel(),
        layers=config.num_hidden_layers,
        hidden=width,
        intermediate=_intermediate(config),
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or width // heads,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        stored_bytes=(getattr(config, "dtype", None) or torch.bfloat16).itemsize,
        vision=seen,
    )


def _lora_rank_1(model: PreTrainedModel, linears: list[tuple[int, int]]) -> int:
    if vision_parts.sees(model) or all(parameter.ndim < 3 for parameter in model.parameters()):
        return sum(inputs + outputs for inputs, outputs in linears)
    from peft import LoraConfig, get_peft_model

    # Experts are one tensor rather than linear layers; peft adapts it in some architectures.
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        copy = AutoModelForCausalLM.from_config(model.config, trust_remote_code=False)
        wrapped = get_peft_model(copy, LoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM"))
    return sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)


def _intermediate(config: PreTrainedConfig) -> int:
    experts = getattr(config, "num_experts_per_tok", None) or 1
    width = getattr(config, "moe_intermediate_size", None) if experts > 1 else None
    return int(experts * (width or getattr(config, "intermediate_size", None) or 4 * config.hidden_size))


def _config(source: str | Path) -> PreTrainedConfig:
    if isinstance(source, Path):
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    settings = dict(zip(FIELDS, KNOWN[source.lower()], strict=True))
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def _config_file(model: str) -> Path:
    path = Path(model)
    file = path / "config.json" if path.is_dir() else path
    return file if file.is_file() else _from_hub(model)


def _from_hub(model: str) -> Path:
    """The config.json of a hub repository, without its weights; from the cache where the network is down."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    names = [*KNOWN, "models/base"]
    if model.count("/") != 1 or model.startswith((".", "/")) or model.endswith(".json"):
        raise BaseModelError(
            f"{model}: neither a folder with a config.json, nor such a file, nor a known name{meant(model, names)}",
            fix=f"name a folder, a config.json, a hub repository (OWNER/NAME), or one of {', '.join(KNOWN)}",
        )
    try:
        return Path(hf_hub_download(model, "config.json"))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HFValidationError, ConnectionError) as error:
        reason = str(error).splitlines()[0]
        raise BaseModelError(
            f"{model}: the hub did not give its config.json, and it is not cached: {reason}",
            fix="check the network, the name, and HF_TOKEN for a gated repository; or name a config.json, which works "
            f"offline, or a known shape: {', '.join(KNOWN)}",
        ) from None


def _unusable(model: str, error: Exception) -> BaseModelError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BaseModelError(
        f"{model}: transformers cannot build a causal language model from its config: {reason}",
        fix="name a text model whose architecture transformers knows; code that a repository brings is not run",
    )
