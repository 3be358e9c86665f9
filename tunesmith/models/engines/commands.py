"""The command of `vllm serve`, in the environment that `environment.find` found."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks that vLLM can be started with; it reserves memory for adapters of that rank."""
CPU_CACHE_GIB = "2"
"""GiB for the KV cache of vLLM's CPU build, where VLLM_CPU_KVCACHE_SPACE is not set; vLLM's own default is half of the
machine's memory."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
ADAPTERS_AT_ONCE = 8
"""Maximum number of adapters in the GPU's memory; further ones wait in the machine's memory."""
WHOLE_PROMPTS = ["--no-enable-chunked-prefill"]
"""For vLLM's build for CPUs (0.32), which fails where the prompt of a request with a seed is computed in chunks."""
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapters:
    """The adapters that a server can load.

    count: their number. rank: their highest rank. modules: the names of the layers that they adapt, such as q_proj.
    """

    count: int
    rank: int
    modules: tuple[str, ...]

    @property
    def max_rank(self) -> int:
        """The lowest of `RANKS` that is at least `rank`."""
        return next((rank for rank in RANKS if rank >= self.rank), RANKS[-1])


def adapters_of(folders: Sequence[Path], *, count: int | None = None) -> Adapters:
    """Return what a server must be started for to load the adapters in these folders, or ``count`` of that kind."""
    ranks, modules = [1], set[str]()
    for folder in folders:
        ranks.append(int(json.loads((folder / ADAPTER).read_text())["r"]))
        with safe_open(folder / ADAPTER_WEIGHTS, "np") as tensors:
            modules |= {name.split(".lora_")[0].rpartition(".")[2] for name in tensors.keys() if ".lora_" in name}  # noqa: SIM118
    return Adapters(count or len(folders), max(ranks), tuple(sorted(modules)))


def vllm_serve(
    environment: Environment,
    settings: Engine,
    weights: Path,
    name: str,
    socket: Path,
    *,
    dtype: str,
    adapters: Adapters | None,
    tokenizer: Path | None = None,
    mounts: Sequence[Path] = (),
    more: Sequence[str] = (),
    chosen: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command that serves the weights in a folder as ``name`` on a Unix socket.

    dtype: that of the weights, where `Engine.dtype` is auto. adapters: None for weights alone. tokenizer: the folder of
    another tokenizer than the weights' own. mounts: folders of adapters that will be loaded. more: further arguments,
    before the user's. chosen: environment variables for a container, which inherits none.
    """
    folders = [weights, *mounts, *([tokenizer] if tokenizer else [])]
    command = [*_vllm(environment, settings, socket, folders, chosen or {}), "serve", str(weights.resolve())]
    command += ["--served-model-name", name, "--uds", str(socket)]
    command += ["--tokenizer", str(tokenizer.resolve())] if tokenizer else []
    command += ["--dtype", dtype if settings.dtype == "auto" else settings.dtype]
    command += ["--max-model-len", _context(environment, settings, weights)]
    # Requests hold all settings of generation: a base's own config may penalize repetition, or sample.
    command += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    if environment.build == "cuda":
        command += ["--gpu-memory-utilization", f"{settings.gpu_memory_share:g}"]
    else:
        command += WHOLE_PROMPTS
    if adapters:
        command += ["--enable-lora", "--max-lora-rank", str(adapters.max_rank)]
        at_once = min(adapters.count, ADAPTERS_AT_ONCE)
        command += ["--max-loras", str(at_once), "--max-cpu-loras", str(adapters.count)]
        # By default vLLM wraps the output head too, without need, and its CPU build then fails to score prompts.
        command += ["--lora-target-modules", *adapters.modules]
    return [*command, *more, *settings.args]


def variables(environment: Environment, settings: Engine, *, loads_adapters: bool) -> dict[str, str]:
    """Return the environment variables of the server. loads_adapters: whether requests may load adapters."""
    values = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if loads_adapters else {}
    if settings.batch_invariant:
        values["VLLM_BATCH_INVARIANT"] = "1"
    if environment.build == "cpu":
        values["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GIB)
    if environment.python is not None:  # no library of another environment
        values |= {"PYTHONPATH": "", "PYTHONHOME": "", "PYTHONNOUSERSITE": "1"}
    return values


def context_length(weights: Path, most: int | None) -> int:
    """Return the maximum tokens of a prompt and its answer: ``most``, or the model's context if shorter."""
    config: Mapping[str, object] = json.loads((weights / "config.json").read_text())
    text = config.get("text_config")
    own = (text if isinstance(text, Mapping) else config).get("max_position_embeddings")
    known = [length for length in (own, most) if isinstance(length, int)]
    return min(known) if known else 4096


def _context(environment: Environment, settings: Engine, weights: Path) -> str:
    """The value of --max-model-len: `Engine.max_model_len`, up to the model's context; if null, what fits a GPU."""
    if settings.max_model_len is None and environment.build == "cuda":
        return "auto"
    return str(context_length(weights, settings.max_model_len))


def container_name(socket: Path) -> str:
    """The name of the container that listens on this socket."""
    return f"tunesmith-{socket.parent.name}"


def _vllm(
    environment: Environment, settings: Engine, socket: Path, folders: Sequence[Path], chosen: Mapping[str, str]
) -> list[str]:
    """The beginning of the command. folders: those that a container may read, at the same paths."""
    if environment.python is not None:
        return [str(environment.python), "-P", "-m", "vllm.entrypoints.cli.main"]
    assert settings.image is not None, "a server at an address is not started here"
    command = ["docker", "run", "--rm", "--init", "--name", container_name(socket), "--network", "none"]
    command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--shm-size", "8g"]
    command += ["--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp", "--entrypoint", "vllm"]
    if environment.build == "cuda":
        visible = chosen.get(VISIBLE, os.environ.get(VISIBLE))
        command += ["--gpus", f'"device={visible}"' if visible else "all"]
    inside = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **chosen}
    command += [part for name, value in inside.items() if name != VISIBLE for part in ("--env", f"{name}={value}")]
    for folder in sorted({folder.resolve() for folder in folders}):
        command += ["--volume", f"{folder}:{folder}:ro"]
    return [*command, "--volume", f"{socket.parent}:{socket.parent}", settings.image]
