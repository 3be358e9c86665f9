"""The command of an engine serves the verified files, and only those, under the served name."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from serving_settings import SETTINGS

from tunesmith.core.errors import MissingLibraryError, ServingError
from tunesmith.serving import engine_commands
from tunesmith.serving.engine_commands import ServedModel

SOCKET = Path("/tmp/engine.sock")


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


def test_vllm_puts_the_adapter_on_the_verified_base_under_the_served_name(adapter: ServedModel) -> None:
    command = engine_commands.vllm(adapter, SOCKET, SETTINGS)
    assert str(adapter.full_weights) in command
    assert options(command) == {
        "--uds": str(SOCKET),
        "--dtype": "bfloat16",
        "--tokenizer": str(adapter.folder),
        "--gpu-memory-utilization": "0.4",
        "--max-model-len": "8192",
        "--served-model-name": "base",
        "--enable-lora": "--max-lora-rank",
        "--max-lora-rank": "16",
        "--lora-modules": f"calculator@7={adapter.folder}",
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
    assert options(engine_commands.vllm(adapter, 1234, SETTINGS))["--max-model-len"] == str(length)


def test_vllm_runs_in_the_environment_that_params_name(adapter: ServedModel, tmp_path: Path) -> None:
    python = tmp_path / "vllm" / "bin" / "python"
    settings = SETTINGS.model_copy(update={"engine": "vllm", "python": python})
    with pytest.raises(ServingError, match=r"serve\.python: \S+/vllm/bin/python: No such file"):
        engine_commands.choose(adapter, 1, tmp_path, settings)
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit $(cat status)\n".replace("status", str(tmp_path / "status")))
    python.chmod(0o755)
    (tmp_path / "status").write_text("1")
    with pytest.raises(ServingError, match="not installed in the environment of"):
        engine_commands.choose(adapter, 1, tmp_path, settings)
    (tmp_path / "status").write_text("0")
    kind, command = engine_commands.choose(adapter, 1, tmp_path, settings)
    assert (kind, command[0]) == ("vllm", str(python))


def test_vllm_serves_full_weights_under_the_served_name(adapter: ServedModel) -> None:
    full = ServedModel("calculator@7", adapter.full_weights, adapter.full_weights, "float32")
    command = options(engine_commands.vllm(full, SOCKET, SETTINGS))
    assert command["--served-model-name"] == "calculator@7"
    assert "--enable-lora" not in command


@pytest.mark.parametrize(
    ("setting", "installed", "device", "chosen"),
    [
        ("auto", True, "cuda", "vllm"),
        ("auto", True, "cpu", "transformers"),
        ("auto", False, "cuda", "transformers"),
        ("transformers", True, "cuda", "transformers"),
        ("vllm", True, "cpu", "vllm"),
    ],
)
def test_vllm_is_chosen_where_it_is_installed_and_a_gpu_is_present(
    adapter: ServedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: Any,
    installed: bool,
    device: str,
    chosen: str,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed or name != "vllm" else None)
    monkeypatch.setattr(engine_commands, "_device", lambda: device)
    settings = SETTINGS.model_copy(update={"engine": setting})
    assert engine_commands.choose(adapter, SOCKET, tmp_path, settings)[0] == chosen


def test_an_engine_that_is_not_installed_is_an_error(adapter: ServedModel, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"engine": "vllm"})
    with pytest.raises(ServingError, match="vllm, which is not installed"):
        engine_commands.choose(adapter, SOCKET, tmp_path, settings)


def test_transformers_needs_the_library_that_its_server_needs(
    adapter: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match="openai is not installed"):
        engine_commands.choose(adapter, SOCKET, tmp_path, SETTINGS)
