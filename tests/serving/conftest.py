"""Fixtures for serving: an adapter to serve, and `tunesmith serve` with fake engines."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
from fake_models import FAKE_ENGINE
from registered_versions import NAME, SIGNING
from serving_settings import SETTINGS, WordReader

from tunesmith.models.engines.environment import Environment
from tunesmith.registry.registered_models import Registry
from tunesmith.serving import engine_commands
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.gateway import prompts
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.gateway.web import listening
from tunesmith.serving.supervisor import Supervisor


@pytest.fixture
def fake_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start `fake_engine.py` with the script in the model's folder, and use an empty cache."""

    def command(environment: object, served: ServedModel, socket: Path, *_: object) -> list[str]:
        name = engine_commands.BASE_NAME if environment and served.is_adapter else served.name
        return [sys.executable, str(FAKE_ENGINE), name, str(socket), str(served.folder / "answers.json")]

    monkeypatch.setattr(engine_commands, "choose", lambda *_: None)
    monkeypatch.setattr(engine_commands, "command", command)
    monkeypatch.setattr(prompts, "reader", lambda *_: WordReader())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def fake_vllm(fake_engines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start `fake_engine.py` as vLLM on a GPU, which loads adapters."""
    environment = Environment(Path(sys.executable), "0.32.0", "cuda", None, "python")
    monkeypatch.setattr(engine_commands, "choose", lambda *_: environment)


@pytest.fixture
def registry(project: Path) -> Registry:
    return Registry()


@pytest.fixture
def log() -> list[str]:
    """The lines that the supervisor logs."""
    return []


@pytest.fixture
def proxy() -> Proxy:
    return Proxy(NAME, "champion")


@pytest.fixture
def supervisor(registry: Registry, proxy: Proxy, log: list[str]) -> Iterator[Supervisor]:
    with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, log.append)) as supervisor:
        yield supervisor


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with (
        listening([proxy], SETTINGS, 0) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def adapter(tmp_path: Path) -> ServedModel:
    """An adapter and its base, as folders whose files name the folder they came from."""
    base, own = tmp_path / "base", tmp_path / "sft-lora"
    for folder, names in {
        base: ("config.json", "model.safetensors", "tokenizer.json", "lineage.json"),
        own: ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"),
    }.items():
        folder.mkdir()
        for name in names:
            (folder / name).write_text(json.dumps({"in": folder.name, "base_model_name_or_path": "models/base"}))
    return ServedModel("calculator@7", own, base, "bfloat16")
