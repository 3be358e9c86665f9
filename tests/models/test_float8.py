"""Products in 8 bits: which layers have them, and where there are none. torchao itself is in no lock."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from profiles import EXACT
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tunesmith.core.errors import MissingLibraryError, ResourceError
from tunesmith.models import weights
from tunesmith.models.float8 import use_float8
from tunesmith.models.settings import Lora


def model() -> torch.nn.Module:
    set_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=120,  # not a multiple of 16
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return weights.add_lora(LlamaForCausalLM(config).to(torch.bfloat16), Lora(rank=16))


@dataclass
class Config:
    """As much of torchao's as is read."""

    recipe: str
    emulate: bool = False
    pad_inner_dim: bool = False

    @classmethod
    def from_recipe_name(cls, name: str) -> "Config":
        return cls(name)


def test_layers_of_whole_tiles_multiply_in_8_bits_but_adapters_and_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []

    def convert(module: torch.nn.Module, *, config: Config, module_filter_fn: Callable[[Any, str], bool]) -> None:
        assert config == Config("rowwise", emulate=True, pad_inner_dim=True)
        chosen.extend(name for name, layer in module.named_modules() if module_filter_fn(layer, name))

    package, float8 = ModuleType("torchao"), ModuleType("torchao.float8")
    package.__spec__ = sys.__spec__
    vars(float8).update(Float8LinearConfig=Config, convert_to_float8_training=convert)
    monkeypatch.setitem(sys.modules, "torchao", package)
    monkeypatch.setitem(sys.modules, "torchao.float8", float8)
    use_float8(model(), EXACT, emulate=True)
    assert {name.split(".layers.0.")[1] for name in chosen} == {f"self_attn.{name}_proj.base_layer" for name in "qkvo"}


def test_without_its_library_the_extra_is_named() -> None:
    with pytest.raises(MissingLibraryError, match=r"torchao is not installed.*\n.*tunesmith\[float8\]"):
        use_float8(model(), EXACT, emulate=True)


def test_a_machine_without_such_products_says_so() -> None:
    with pytest.raises(ResourceError, match="a test multiplies no floating point of 8 bits"):
        use_float8(model(), EXACT)
