"""Commands of the two engines: transformers' server and `vllm serve`.

Both listen on a Unix socket in a folder that is closed to other users, and serve under the name
``<registered model>@<version>``, so that every reply names the version that wrote it.
"""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.core import extras
from tunesmith.core.errors import ServingError
from tunesmith.registry.servable import ADAPTER
from tunesmith.serving.settings import Serve

EngineKind = Literal["transformers", "vllm"]
WEIGHT_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
"""Files that a server reads from the full weights under an adapter."""
ADAPTER_FILES = ("adapter_model.safetensors", "tokenizer*", "vocab.*", "merges.txt", "*tokens*.json", "chat_template*")
"""Files that a server reads from the adapter's own folder, besides its config."""


@dataclass(frozen=True)
class ServedModel:
    """A verified model for an engine to serve."""

    name: str
    """The model name that requests to the engine use: ``<registered model>@<version>``."""
    folder: Path
    """The model folder."""
    full_weights: Path
    """The folder of the full weights under an adapter; otherwise the model folder itself."""
    dtype: str
    """The dtype of the evaluation, such as "bfloat16"."""

    @property
    def is_adapter(self) -> bool:
        return (self.folder / ADAPTER).exists()


def choose(served: ServedModel, socket: Path, folder: Path, settings: Serve) -> tuple[EngineKind, list[str]]:
    """Return the engine that `Serve.engine` selects and its command, to be run in ``folder``, which is empty.

    Raises ServingError or MissingLibraryError where the engine is not installed.
    """
    installed = settings.engine != "transformers" and has_vllm(settings.python)
    if settings.engine == "vllm" and not installed:
        place = f"in the environment of {settings.python}" if settings.python else "here"
        raise ServingError(
            f"params.yaml: serve.engine is vllm, which is not installed {place}",
            fix="install it in an environment of its own, since it pins another torch (`python -m venv .venv-vllm "
            "&& .venv-vllm/bin/pip install vllm`), and name that: `serve.python: .venv-vllm/bin/python`; or "
            "set serve.engine to auto",
        )
    if settings.engine == "vllm" or (settings.engine == "auto" and installed and _device() == "cuda"):
        return "vllm", vllm(served, socket, settings)
    extras.check("openai")  # which transformers' server needs
    return "transformers", transformers(served, socket, folder)


def has_vllm(python: Path | None) -> bool:
    """Whether vLLM is installed in the environment of ``python`` (None: this one). Raises ServingError without one."""
    if python is None:
        return importlib.util.find_spec("vllm") is not None
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        return subprocess.run([str(python.absolute()), "-P", "-c", find], check=False).returncode == 0
    except OSError as error:
        raise ServingError(
            f"params.yaml: serve.python: {python}: {error.strerror}", fix="name the Python of an environment with vLLM"
        ) from None


def context_length(served: ServedModel, settings: Serve) -> int:
    """Return `Serve.context_length`, or what the model has where that is less: vLLM refuses more."""
    config = json.loads((served.full_weights / "config.json").read_text())
    own = config.get("text_config", config).get("max_position_embeddings")
    return min(settings.context_length, own or settings.context_length)


def transformers(served: ServedModel, socket: Path, folder: Path) -> list[str]:
    """Return the command of `tunesmith.serving.transformers_server`, to be run in ``folder``.

    Links to the model's files are made there. Of ``<name>@<version>`` it loads ``<name>`` from the working folder.
    Weights with an adapter beside them are loaded with it, in one dtype, as in `tunesmith.models.loading`; the
    adapter's config names the same folder as its base.
    """
    links = folder / served.name.partition("@")[0]
    links.mkdir()
    sources: list[tuple[Path, tuple[str, ...]]] = [(served.folder, ("*",))]
    if served.is_adapter:
        sources = [(served.full_weights, WEIGHT_FILES), (served.folder, ADAPTER_FILES)]
    for source, patterns in sources:
        for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
            (links / file.name).symlink_to(file.resolve())
    if served.is_adapter:
        config = json.loads((served.folder / ADAPTER).read_text())
        (links / ADAPTER).write_text(json.dumps(config | {"base_model_name_or_path": str(links)}))
    command = [sys.executable, "-P", "-m", "tunesmith.serving.transformers_server"]
    return [*command, served.name, str(socket), _device(), served.dtype]


def vllm(served: ServedModel, socket: Path, settings: Serve) -> list[str]:
    """Return the command of `vllm serve`, with the model's own tokenizer and chat template, not its base's."""
    python = str(settings.python.absolute()) if settings.python else sys.executable
    command = [python, "-P", "-m", "vllm.entrypoints.cli.main", "serve", str(served.full_weights.resolve())]
    command += ["--uds", str(socket), "--dtype", served.dtype]
    command += ["--tokenizer", str(served.folder.resolve())]
    command += ["--gpu-memory-utilization", str(settings.gpu_memory_share)]
    command += ["--max-model-len", str(context_length(served, settings))]
    if not served.is_adapter:
        return [*command, "--served-model-name", served.name]
    command += ["--served-model-name", "base", "--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
    return [*command, "--lora-modules", f"{served.name}={served.folder.resolve()}"]


def _device() -> str:
    from tunesmith.models import device  # imports torch

    return device.detect().device
