import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_model
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from tunesmith.core.errors import BaseModelError
from tunesmith.models import weights
from tunesmith.models.settings import Lora
from tunesmith.planning import model_shape

PUBLISHED = {
    "smollm2-135m": 134_515_008,
    "smollm2-1.7b": 1_711_376_384,
    "llama-3.2-1b": 1_235_814_400,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "mistral-7b-v0.3": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
}


@pytest.mark.parametrize("name", model_shape.KNOWN)
def test_known_shapes_have_as_many_parameters_as_their_models(name: str) -> None:
    shape = model_shape.read(name)
    assert shape.parameters == PUBLISHED[name]
    assert shape.linear_parameters < shape.parameters
    assert shape.query_width == shape.heads * shape.head_dim


@pytest.mark.parametrize("file", ["", "config.json"])
def test_a_folder_and_its_config_give_the_shape_of_the_real_model(tiny_folder: Path, file: str) -> None:
    shape = model_shape.read(str(tiny_folder / file))
    model = make_model(shape.vocabulary)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.head == model.lm_head.weight.numel()
    assert (shape.layers, shape.hidden, shape.intermediate, shape.heads, shape.kv_heads) == (2, 32, 64, 4, 2)
    assert model_shape.from_model(model, name=shape.name) == replace(
        shape, stored_bytes=2
    )  # a model in memory has no files


@pytest.mark.parametrize("rank", [1, 8])
def test_lora_trains_as_many_parameters_as_peft_counts(rank: int) -> None:
    model = make_model(300)
    shape = model_shape.from_model(model)
    wrapped = weights.add_lora(model, Lora(rank=rank, alpha=2, dropout=0.0))
    assert shape.lora_parameters(rank) == weights.count_parameters(wrapped)[0]


SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
OTHERS = {
    "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_head=2, n_layer=1)),
    "mixtral": MixtralForCausalLM(
        MixtralConfig(**SIZES, intermediate_size=24, num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=2)
    ),
}


@pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out:UserWarning", "ignore:The following (rank|alpha)_pattern:RuntimeWarning"
)
@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_counted_exactly(name: str, tmp_path: Path) -> None:
    model = OTHERS[name]
    model.config.save_pretrained(tmp_path)
    shape = model_shape.read(str(tmp_path))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    wrapped = weights.add_lora(model, Lora(rank=2, alpha=2, dropout=0.0))
    assert shape.lora_parameters(2) == weights.count_parameters(wrapped)[0]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("lama-2-7b", r"nor a known name; did you mean 'llama-2-7b'\?"),
        ("./models/nowhere", "neither a folder with a config.json, nor such a file"),
        ("nowhere/config.json", "neither a folder with a config.json, nor such a file"),
        ("owner/name", "the hub did not give its config.json, and it is not cached"),
        ("owner/not a name", "the hub did not give its config.json"),
    ],
)
def test_the_error_for_an_unknown_model_names_what_works_offline(model: str, reason: str) -> None:
    with pytest.raises(BaseModelError, match=reason) as caught:
        model_shape.read(model)
    assert "config.json" in caught.value.fix


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "[]",
        json.dumps({"model_type": "nothing"}),
        json.dumps(
            {"model_type": "new", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
        ),
        json.dumps({"model_type": "vit"}),
        json.dumps({"model_type": "llama", "hidden_size": "wide"}),
    ],
)
def test_a_config_without_a_language_model_is_refused_and_its_code_never_runs(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "code.py").write_text("raise SystemExit('was run')")
    with pytest.raises(BaseModelError, match="transformers cannot build a causal language model from its config"):
        model_shape.read(str(tmp_path))
