"""What an engine is started with, and what becomes of one that does not start."""

import importlib.util
import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from serving_settings import SETTINGS

from tunesmith.core.errors import ServingError
from tunesmith.serving import engine, engine_commands
from tunesmith.serving.engine_commands import Served


@pytest.fixture
def adapter(tmp_path: Path) -> Served:
    base, own = tmp_path / "base", tmp_path / "sft-lora"
    for folder, names in {
        base: ("config.json", "model.safetensors", "tokenizer.json", "lineage.json"),
        own: ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"),
    }.items():
        folder.mkdir()
        for name in names:
            (folder / name).write_text(json.dumps({"in": folder.name, "base_model_name_or_path": "models/base"}))
    return Served("calculator@7", own, base, "bfloat16")


def options(command: list[str]) -> dict[str, str]:
    return {name: value for name, value in pairwise(command) if name.startswith("--")}


def test_transformers_loads_the_verified_base_with_the_adapter_and_its_own_tokenizer(
    adapter: Served, tmp_path: Path
) -> None:
    command = engine_commands.transformers(adapter, 1234, tmp_path)
    together = tmp_path / "calculator"
    found = {file.name: json.loads(file.read_text()) for file in together.iterdir()}
    assert {name: content["in"] for name, content in found.items()} == {
        "config.json": "base",
        "model.safetensors": "base",
        "adapter_config.json": "sft-lora",
        "adapter_model.safetensors": "sft-lora",
        "tokenizer.json": "sft-lora",
        "chat_template.jinja": "sft-lora",
    }
    assert found["adapter_config.json"]["base_model_name_or_path"] == str(together), "no other base is looked for"
    assert "calculator@7" in command
    assert options(command)["--dtype"] == "bfloat16"
    assert options(command)["--host"] == "127.0.0.1"


def test_vllm_puts_the_adapter_on_the_verified_base_under_the_served_name(adapter: Served) -> None:
    command = engine_commands.vllm(adapter, 1234, SETTINGS)
    assert str(adapter.on) in command
    assert options(command) == {
        "--host": "127.0.0.1",
        "--port": "1234",
        "--dtype": "bfloat16",
        "--tokenizer": str(adapter.folder),
        "--gpu-memory-utilization": "0.4",
        "--served-model-name": "base",
        "--enable-lora": "--max-lora-rank",
        "--max-lora-rank": "16",
        "--lora-modules": f"calculator@7={adapter.folder}",
    }


def test_vllm_serves_full_weights_under_the_served_name(adapter: Served) -> None:
    full = Served("calculator@7", adapter.on, adapter.on, "float32")
    found = options(engine_commands.vllm(full, 1234, SETTINGS))
    assert found["--served-model-name"] == "calculator@7"
    assert "--enable-lora" not in found


@pytest.mark.parametrize(
    ("asked", "installed", "device", "chosen"),
    [
        ("auto", True, "cuda", "vllm"),
        ("auto", True, "cpu", "transformers"),
        ("auto", False, "cuda", "transformers"),
        ("transformers", True, "cuda", "transformers"),
        ("vllm", True, "cpu", "vllm"),
    ],
)
def test_vllm_serves_where_it_is_installed_and_there_is_a_gpu(
    adapter: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: Any,
    installed: bool,
    device: str,
    chosen: str,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(engine_commands, "_device", lambda: device)
    settings = SETTINGS.model_copy(update={"engine": asked})
    assert engine_commands.choose(adapter, 1, tmp_path, settings)[0] == chosen


def test_an_engine_that_is_not_installed_is_said(adapter: Served, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"engine": "vllm"})
    with pytest.raises(ServingError, match="vllm, which is not installed"):
        engine_commands.choose(adapter, 1, tmp_path, settings)


def instead(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = [sys.executable, "-c", script]
    monkeypatch.setattr(engine_commands, "choose", lambda *_: ("transformers", command))


def test_an_engine_that_ends_at_its_start_is_told_with_the_end_of_its_log(
    adapter: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "print(*range(100), sep='\\n'); print('GET /health 200\\n' * 100); raise SystemExit('CUDA out of memory')"
    instead(monkeypatch, script)
    running = engine.running(adapter, SETTINGS)
    with pytest.raises(ServingError, match=r"(?s)ended with status 1.* 99\n *\n +CUDA out of memory") as told, running:
        pass
    assert " 50\n" not in str(told.value)


def test_an_engine_that_never_answers_is_given_up_and_ended(
    adapter: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    number = tmp_path / "number"
    instead(monkeypatch, f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    settings = SETTINGS.model_copy(update={"start_seconds": 2.0})
    with pytest.raises(ServingError, match="does not answer after 2 s"), engine.running(adapter, settings):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_an_engine_that_will_not_end_is_killed(adapter: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ENDING", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
    instead(monkeypatch, script + "while True: time.sleep(1)")
    settings = SETTINGS.model_copy(update={"start_seconds": 2.0})
    with pytest.raises(ServingError, match="deaf"), engine.running(adapter, settings):
        pass
