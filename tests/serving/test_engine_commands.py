"""The command of an engine serves the verified files, and only those, under the served name."""

import importlib.util
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from serving_settings import SETTINGS

from tunesmith.core.errors import MissingLibraryError, ServingError
from tunesmith.models.engines import environment
from tunesmith.models.engines.commands import Adapters
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine
from tunesmith.serving import engine_commands
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.settings import Serve

SOCKET, WEIGHTS = Path("/tmp/engine.sock"), "model.safetensors"
PLACES = Engine()
ENVIRONMENT = Environment(Path("/vllm/bin/python"), "0.32.0", "cuda", None, "python")


def options(command: list[str]) -> dict[str, str]:
    """Return the argument after each option of a command."""
    return {name: value for name, value in pairwise(command) if name.startswith("--")}


def test_transformers_loads_the_verified_base_with_the_adapter_and_its_own_tokenizer(
    adapter: ServedModel, tmp_path: Path
) -> None:
    command = engine_commands.transformers(adapter, SOCKET, tmp_path)
    links = tmp_path / "calculator"
    contents = {file.name: json.loads(file.read_text()) for file in links.iterdir()}
    assert {name: content["in"] for name, content in contents.items()} == {
        "config.json": "base",
        "model.safetensors": "base",
        "adapter_config.json": "sft-lora",
        "adapter_model.safetensors": "sft-lora",
        "tokenizer.json": "sft-lora",
        "chat_template.jinja": "sft-lora",
    }
    assert contents["adapter_config.json"]["base_model_name_or_path"] == str(links), (
        "the adapter's config names the linked base"
    )
    assert command[-4:] == ["calculator@7", str(SOCKET), "cpu", "bfloat16"]


def vllm(served: ServedModel, settings: Serve = SETTINGS, adapters: Adapters | None = None) -> dict[str, str]:
    """Return the options of vLLM's command."""
    return options(engine_commands.vllm(ENVIRONMENT, served, SOCKET, settings, PLACES, adapters))


def test_vllm_is_started_for_adapters_and_has_none_before_its_bytes_are_checked(adapter: ServedModel) -> None:
    settings = SETTINGS.model_copy(update={"args": ("--max-num-seqs", "8")})
    assert vllm(adapter, settings, Adapters(2, 16, ("q_proj", "up_proj"))) == {
        "--served-model-name": "base",
        "--uds": str(SOCKET),
        "--tokenizer": str(adapter.folder),
        "--dtype": "bfloat16",
        "--max-model-len": "8192",
        "--generation-config": "vllm",
        "--logprobs-mode": "processed_logprobs",
        "--gpu-memory-utilization": "0.4",
        "--enable-lora": "--max-lora-rank",
        "--max-lora-rank": "16",
        "--max-loras": "2",
        "--max-cpu-loras": "2",
        "--lora-target-modules": "q_proj",
        "--max-num-seqs": "8",
    }


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, 8192),
        ({"max_position_embeddings": 40960}, 8192),
        ({"max_position_embeddings": 2048}, 2048),
        ({"text_config": {"max_position_embeddings": 2048}}, 2048),
    ],
)
def test_the_context_is_no_longer_than_asked_for_nor_than_the_model_has(
    adapter: ServedModel, config: dict[str, Any], length: int
) -> None:
    (adapter.full_weights / "config.json").write_text(json.dumps(config))
    assert vllm(adapter)["--max-model-len"] == str(length)
    assert engine_commands.context_length(adapter, SETTINGS) == length


def test_vllm_serves_full_weights_under_the_served_name(adapter: ServedModel) -> None:
    command = vllm(ServedModel("calculator@7", adapter.full_weights, adapter.full_weights, "float32"))
    assert command["--served-model-name"] == "calculator@7"
    assert "--enable-lora" not in command


def test_the_dtype_is_that_of_the_evaluation_whatever_the_engine_computes_in_elsewhere(adapter: ServedModel) -> None:
    places = PLACES.model_copy(update={"dtype": "float16", "args": ("--seed", "1"), "max_model_len": 64})
    command = options(engine_commands.vllm(ENVIRONMENT, adapter, SOCKET, SETTINGS, places, None))
    assert (command["--dtype"], command["--max-model-len"]) == ("bfloat16", "8192")
    assert "--seed" not in command, "further arguments of serving are serve.args"


def test_an_engine_is_started_for_every_usual_layer_of_its_base_and_for_no_output_head(tmp_path: Path) -> None:
    base, own = tmp_path / "base", tmp_path / "own"
    for folder, names in {
        base: (
            "layers.0.q_proj.weight",
            "layers.0.down_proj.weight",
            "layers.0.experts.1.up_proj.weight",
            "lm_head.weight",
        ),
        own: ("layers.0.q_proj.lora_A.weight", "layers.0.in_proj.lora_A.weight"),
    }.items():
        folder.mkdir()
        save_file({name: np.zeros((2, 2), "float32") for name in names}, folder / WEIGHTS)
    (own / WEIGHTS).rename(own / "adapter_model.safetensors")
    (own / "adapter_config.json").write_text('{"r": 4}')
    adapters = engine_commands.adapters(ServedModel("calculator@7", own, base, "float32"), SETTINGS, 3)
    assert adapters == Adapters(3, 16, ("down_proj", "in_proj", "q_proj"))


@pytest.mark.parametrize(
    ("setting", "installed", "device", "chosen"),
    [
        ("auto", True, "cuda", True),
        ("auto", True, "cpu", False),
        ("auto", False, "cuda", False),
        ("transformers", True, "cuda", False),
        ("vllm", True, "cpu", True),
    ],
)
def test_vllm_is_chosen_where_it_is_installed_and_a_gpu_is_present(
    monkeypatch: pytest.MonkeyPatch, setting: Any, installed: bool, device: str, chosen: bool
) -> None:
    monkeypatch.setattr(environment, "find", lambda places: ENVIRONMENT if installed and places is PLACES else None)
    monkeypatch.setattr(engine_commands, "_device", lambda: device)
    settings = SETTINGS.model_copy(update={"engine": setting})
    assert engine_commands.choose(settings, PLACES) == (ENVIRONMENT if chosen else None)


def test_an_engine_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find", lambda _: None)
    with pytest.raises(ServingError, match="vllm, which is not installed"):
        engine_commands.choose(SETTINGS.model_copy(update={"engine": "vllm"}), PLACES)


def test_a_vllm_that_somebody_else_keeps_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find", lambda _: replace(ENVIRONMENT, python=None, origin="address"))
    with pytest.raises(ServingError, match=r"engine\.address names a server that somebody else keeps"):
        engine_commands.choose(SETTINGS.model_copy(update={"engine": "vllm"}), PLACES)


def test_transformers_needs_the_library_that_its_server_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match="openai is not installed"):
        engine_commands.choose(SETTINGS, PLACES)
