"""The choice between the two engines, transformers' server and `vllm serve`, and the command of each.

Both listen on a Unix socket in a folder that is closed to other users. A version has the name ``<registered
model>@<version>`` there, so that every reply names the version that wrote it.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import safe_open

from tunesmith.core import extras
from tunesmith.core.errors import ServingError
from tunesmith.models.engines import commands, environment
from tunesmith.models.engines.commands import Adapters
from tunesmith.models.engines.environment import HOW_TO_INSTALL, Environment
from tunesmith.models.engines.settings import Engine
from tunesmith.registry.servable import ADAPTER
from tunesmith.serving import model_cache
from tunesmith.serving.settings import Serve

EngineKind = Literal["transformers", "vllm"]
WEIGHT_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
"""Files that a server reads from the full weights under an adapter."""
TOKENIZER_FILES = ("tokenizer*", "vocab.*", "merges.txt", "*tokens*.json", "chat_template*", "*processor_config.json")
"""Files that a server renders and tokenizes prompts by, and makes pixels of images."""
ADAPTER_FILES = ("adapter_model.safetensors", *TOKENIZER_FILES)
"""Files that a server reads from the adapter's own folder, besides its config."""
BASE_NAME = "base"
"""The name of the full weights in an engine with adapters; no request is sent to it."""
USUAL_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers that most adapters adapt, by their usual names."""
FREE = "import torch; free, total = torch.cuda.mem_get_info(); print(free / total)"


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


def choose(settings: Serve, places: Engine) -> Environment | None:
    """Return the vLLM that `Serve.engine` selects, or None for transformers' server.

    places: the section `engine`, which says where vLLM is. Raises ServingError, EngineError or MissingLibraryError
    where the engine is not installed, or cannot be used.
    """
    vllm_env = environment.find(places) if settings.engine != "transformers" else None
    if settings.engine == "vllm" and vllm_env is None:
        raise ServingError(
            "params.yaml: serve.engine is vllm, which is not installed", fix=f"{HOW_TO_INSTALL}; or set it to auto"
        )
    if vllm_env is None or (settings.engine == "auto" and _device() != "cuda"):
        extras.check("openai")  # which transformers' server needs
        return None
    if vllm_env.origin == "address":
        raise ServingError(
            "params.yaml: engine.address names a server that somebody else keeps, whose files cannot be checked",
            fix="set serve.engine to transformers, or name a vLLM to start here: engine.python or engine.image",
        )
    return vllm_env


def context_length(served: ServedModel, settings: Serve) -> int:
    """Return `Serve.max_model_len`, or what the model has where that is less: vLLM refuses more."""
    return commands.context_length(served.full_weights, settings.max_model_len)


def command(
    environment: Environment | None,
    served: ServedModel,
    socket: Path,
    folder: Path,
    settings: Serve,
    places: Engine,
    adapters: Adapters | None,
) -> list[str]:
    """Return the command of an engine, to be run in ``folder``, which is empty.

    environment: as `choose` returned it. adapters: those that vLLM will load.
    """
    if environment is None:
        return transformers(served, socket, folder)
    return vllm(environment, served, socket, settings, places, adapters)


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


def vllm(
    environment: Environment,
    served: ServedModel,
    socket: Path,
    settings: Serve,
    places: Engine,
    adapters: Adapters | None,
) -> list[str]:
    """Return the command of `vllm serve`, with the model's own tokenizer and chat template, not its base's.

    Adapters are loaded once it runs, from folders of the cache.
    """
    return commands.vllm_serve(
        environment,
        vllm_settings(settings, places),
        served.full_weights,
        BASE_NAME if served.is_adapter else served.name,
        socket,
        dtype=served.dtype,
        adapters=adapters,
        tokenizer=served.folder,
        mounts=[model_cache.private_root()],
    )


def vllm_settings(settings: Serve, places: Engine) -> Engine:
    """Return the settings of vLLM for serving: those of `serve` where it has them, else those of `engine`."""
    own = {"gpu_memory_share": settings.gpu_memory_share, "max_model_len": settings.max_model_len}
    # The dtype is that of the evaluation.
    return places.model_copy(update={**own, "args": settings.args, "dtype": "auto"})


def adapters(served: ServedModel, settings: Serve, count: int) -> Adapters:
    """Return the adapters that vLLM is started for, so that later versions of ``served`` need no other engine.

    Those may have another rank, up to `Serve.max_lora_rank`, and adapt any of the usual layers. count: the number that
    is loaded at once.
    """
    own = commands.adapters_of([served.folder])
    modules = {*own.modules, *_usual_layers(served.full_weights)}
    return Adapters(count, max(own.rank, settings.max_lora_rank), tuple(sorted(modules)))


def free_share(most: float) -> float:
    """Return the fraction of the GPU's memory for a further engine: a little less than is free, up to ``most``.

    Another process measures it, since a process that uses CUDA keeps memory of its own from then on.
    """
    done = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, check=False)
    return most if done.returncode else min(most, 0.95 * float(done.stdout))


def _usual_layers(weights: Path) -> set[str]:
    """The usual linear layers that full weights have, except in experts, whose adapters vLLM stores differently."""
    layers = set[str]()
    for file in weights.glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            names = [name for name in tensors.keys() if ".experts." not in name]  # noqa: SIM118
        layers |= {name.rpartition(".")[0].rpartition(".")[2] for name in names}
    return layers.intersection(USUAL_LAYERS)


def _device() -> str:
    from tunesmith.models import device  # imports torch

    return device.detect().device
