"""The commands of the engines that serve: `transformers serve`, and vLLM.

Both answer to ``<registered model>@<version>``, so that every reply names the version that wrote it.
"""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.core.errors import ServingError
from tunesmith.registry.servable import ADAPTER
from tunesmith.serving.settings import Serve

Kind = Literal["transformers", "vllm"]
LOOPBACK = "127.0.0.1"
WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
OWN = ("adapter_model.safetensors", "tokenizer*", "vocab.*", "merges.txt", "*tokens*.json", "chat_template*")
"""What a server reads of the full weights under an adapter, and what of the adapter's folder."""


@dataclass(frozen=True)
class Served:
    """What an engine is to serve, all of it verified.

    name: what it answers to. folder: the model. on: the full weights under an adapter; else the folder itself. dtype:
    what it was evaluated in.
    """

    name: str
    folder: Path
    on: Path
    dtype: str

    @property
    def is_adapter(self) -> bool:
        return (self.folder / ADAPTER).exists()


def choose(served: Served, port: int, folder: Path, settings: Serve) -> tuple[Kind, list[str]]:
    """The engine that `Serve.engine` names, and its command, to be run in ``folder``, an empty one.

    Raises ServingError where it is not installed.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if settings.engine == "vllm" and not installed:
        raise ServingError(
            "params.yaml: serve.engine is vllm, which is not installed here",
            fix="`pip install vllm` where there is a GPU, or set serve.engine to auto",
        )
    if settings.engine == "vllm" or (settings.engine == "auto" and installed and _device() == "cuda"):
        return "vllm", vllm(served, port, settings)
    return "transformers", transformers(served, port, folder)


def transformers(served: Served, port: int, folder: Path) -> list[str]:
    """The command of `transformers serve`, run in ``folder``, where what it loads is put together as links.

    It loads ``<name>`` of ``<name>@<version>``, from the working folder. Weights with an adapter beside them are loaded
    with it, in one dtype, as `tunesmith.models.loading` does: the adapter's config names no other base.
    """
    together = folder / served.name.partition("@")[0]
    together.mkdir()
    parts = [(served.on, WEIGHTS), (served.folder, OWN)] if served.is_adapter else [(served.folder, ("*",))]
    for source, patterns in parts:
        for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
            (together / file.name).symlink_to(file.resolve())
    if served.is_adapter:
        config = json.loads((served.folder / ADAPTER).read_text())
        (together / ADAPTER).write_text(json.dumps(config | {"base_model_name_or_path": str(together)}))
    command = [sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", served.name]
    return [*command, "--host", LOOPBACK, "--port", str(port), "--device", _device(), "--dtype", served.dtype]


def vllm(served: Served, port: int, settings: Serve) -> list[str]:
    """The command of `vllm serve`. The tokenizer and its template are the model's own, whatever its base has."""
    command = [sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "serve", str(served.on.resolve())]
    command += ["--host", LOOPBACK, "--port", str(port), "--dtype", served.dtype]
    command += ["--tokenizer", str(served.folder.resolve())]
    command += ["--gpu-memory-utilization", str(settings.gpu_memory_share)]
    if not served.is_adapter:
        return [*command, "--served-model-name", served.name]
    command += ["--served-model-name", "base", "--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
    return [*command, "--lora-modules", f"{served.name}={served.folder.resolve()}"]


def _device() -> str:
    from tunesmith.models import device  # imports torch

    return device.detect().device
