"""Choose, check and start the vLLM that writes the completions of a training."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from tunesmith.core import processes
from tunesmith.core.errors import EngineError, ParamsError, ResourceError
from tunesmith.core.params import load
from tunesmith.core.ready_rows import Row
from tunesmith.models import chat, servable_adapter, weights
from tunesmith.models.engines import commands, environment, vllm
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.record import EngineRecord, record
from tunesmith.models.engines.settings import Engine
from tunesmith.models.loading import OpenModel
from tunesmith.training.entries.online import Online
from tunesmith.training.objectives import adapter_proof
from tunesmith.training.objectives.adapter_proof import AdapterProof
from tunesmith.training.objectives.engine_policy import EnginePolicy, save_adapter

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""A folder for each GPU of this machine."""
SPARE = 0.05
"""The share of a GPU's memory kept free for what the training adds to its weights before the engine wakes up."""
LEAST = 0.1
"""The least share of a GPU's memory that an engine is started with."""
SLEEP = ("--enable-sleep-mode",)
SLEEP_ROUTES = {"VLLM_SERVER_DEV_MODE": "1"}
"""The variable without which vLLM has no routes for sleep mode."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Chosen:
    """The vLLM of a training.

    gpu: its own GPU, as CUDA_VISIBLE_DEVICES names it; None where it shares the training's, or has none.
    """

    environment: Environment
    settings: Engine
    gpu: str | None

    @property
    def sleeps(self) -> bool:
        """Whether it frees the GPU for the steps. A server that somebody else maintains is left awake."""
        return self.environment.build == "cuda" and self.gpu is None and self.environment.origin != "address"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Further arguments of `vllm serve`."""
        return SLEEP if self.sleeps else ()

    @property
    def variables(self) -> dict[str, str]:
        """Further environment variables of `vllm serve`."""
        if self.gpu is not None:
            return {VISIBLE: self.gpu}
        return SLEEP_ROUTES if self.sleeps else {}


def choose(section: str, entry: Online, params: Path) -> Chosen | None:
    """The engine of an entry's rollouts; None where transformers writes them. Called before torch looks for GPUs.

    params: the file with the effective params. Where gpus is apart, hides the engine's GPU from this process. Raises
    EngineError where no vLLM is installed, and ResourceError where gpus is apart without exactly two GPUs.
    """
    if entry.rollouts.engine == "transformers":
        return None
    if processes.count() > 1:
        raise ParamsError(
            f"{section}.rollouts.engine is vllm, which goes with one process, and {processes.count()} train",
            fix="set it to transformers, or runtime.processes to 1",
        )
    settings = load(Engine, "engine", path=params)
    if (vllm_env := environment.find(settings)) is None:
        raise EngineError(
            f"{section}.rollouts.engine is vllm, and no vLLM is installed",
            fix=f"{environment.HOW_TO_INSTALL}, or name one in `engine` of params.yaml; or set it to transformers",
        )
    if vllm_env.origin == "address":
        _check_address(section, entry)
    if entry.rollouts.gpus == "shared":
        return Chosen(vllm_env, settings, None)
    ours, gpu = apart(visible_gpus(), section)
    # Where bitsandbytes' import made CUDA list the GPUs before, this has no effect; the first one is ours either way.
    os.environ[VISIBLE] = ours
    return Chosen(vllm_env, settings, gpu)


def _check_address(section: str, entry: Online) -> None:
    """Raise ParamsError for what a server that somebody else keeps cannot do for a training."""
    if entry.temperature != 1.0:
        raise ParamsError(
            f"{section}.temperature is {entry.temperature:g}, and engine.address names a server that may give "
            "log-probabilities from before the temperature",
            fix="set it to 1, or let `engine` name no address: one that is started here gives those of the draw",
        )
    if entry.rollouts.gpus == "apart":
        raise ParamsError(
            f"{section}.rollouts.gpus is apart, and engine.address names a server whose GPU is chosen where it runs",
            fix="leave rollouts.gpus out",
        )


def recorded(chosen: Chosen | None, policy: OpenModel) -> EngineRecord | None:
    """What the lineage records of the engine; None where transformers writes the completions."""
    return None if chosen is None else record(chosen.environment, chosen.settings, dtype_of(policy))


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, or all of this machine's by number."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [gpu for gpu in re.split(r"\s*,\s*", named.strip()) if gpu not in ("", "-1")]
    return [str(number) for number, _ in enumerate(NVIDIA.iterdir())] if NVIDIA.is_dir() else []


def apart(gpus: Sequence[str], section: str) -> tuple[str, str]:
    """The GPU of the training, and that of the engine. Raises ResourceError unless there are exactly two."""
    if len(gpus) < 2:
        raise ResourceError(
            f"{section}.rollouts.gpus is apart, and {len(gpus) or 'no'} GPU is visible: the engine needs its own",
            fix="set it to shared, or make two visible (CUDA_VISIBLE_DEVICES=0,1)",
        )
    if len(gpus) > 2:
        raise ResourceError(
            f"{section}.rollouts.gpus is apart, and {len(gpus)} GPUs are visible: a training takes one, its engine one",
            fix=f"set CUDA_VISIBLE_DEVICES={gpus[0]},{gpus[-1]} (or two others) in the environment of `dvc repro`",
        )
    return gpus[0], gpus[1]


def check_adapter(section: str, policy: OpenModel) -> None:
    """Raise ParamsError where vLLM cannot serve the policy's adapter."""
    assert isinstance(policy.model, PeftModel)
    config = weights.saved_config(policy.model)
    for reason in servable_adapter.reasons(config, servable_adapter.HIGHEST_RANK):
        raise ParamsError(
            f"{section}.rollouts.engine: vLLM cannot serve this adapter: {reason.text}",
            fix="set it to transformers, or train an adapter without that",
        )


@contextmanager
def opened(
    chosen: Chosen | None, policy: OpenModel, entry: Online, section: str, rows: Sequence[Row], held_out: Sequence[Row]
) -> Iterator[EnginePolicy | None]:
    """Serve the untrained policy while the block runs; yields None where transformers writes the completions.

    rows, held_out: all rows whose prompts will be answered. Raises EngineError where the server does not start.
    """
    if chosen is None:
        yield None
        return
    check_adapter(section, policy)
    proof = AdapterProof(policy, adapter_proof.conversations(policy, rows))
    settings = chosen.settings.model_copy(update={"max_model_len": _context(policy, entry, [*rows, *held_out], proof)})
    if policy.profile.device == "cuda" and chosen.gpu is None and chosen.environment.origin != "address":
        settings = settings.model_copy(update={"gpu_memory_share": _share(settings)})
    with tempfile.TemporaryDirectory(prefix="tunesmith-rollouts-") as scratch:
        folder = Path(scratch)
        print(f"  starting vLLM {chosen.environment.version} for the rollouts", flush=True)
        with vllm.running(
            chosen.environment,
            settings,
            policy.full_weights,
            dtype=dtype_of(policy),
            adapters=commands.adapters_of([save_adapter(policy, folder / "start")], count=1),
            mounts=[folder],
            more=chosen.arguments,
            variables=chosen.variables,
        ) as server:
            engine = EnginePolicy(server, policy, proof, folder, seed=entry.seed, sleeps=chosen.sleeps)
            try:
                yield engine
            finally:
                with suppress(EngineError):  # ours ends anyway; this is for a server that somebody else maintains
                    engine.unload()


def dtype_of(policy: OpenModel) -> str:
    """The type of the weights under the adapter, as vLLM names it."""
    return str(policy.profile.dtype).removeprefix("torch.")


def _context(policy: OpenModel, entry: Online, rows: Sequence[Row], proof: AdapterProof) -> int:
    """The tokens of the longest prompt and answer, and one more, which vLLM generates when it scores."""
    prompts = [chat.encode_prompt(policy.tokenizer, row["prompt"], row.get("tools")) for row in rows]
    longest = max(map(len, prompts)) + entry.max_new_tokens
    return max(longest, *map(len, proof.sequences)) + 1


def _share(settings: Engine) -> float:
    """The share of the GPU's memory for an engine beside the policy's weights, up to `Engine.gpu_memory_share`.

    Raises ResourceError where that is too little.
    """
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    share = min(settings.gpu_memory_share, round(free / total - SPARE, 2))
    if share < LEAST:
        raise ResourceError(
            f"rollouts.gpus is shared, and only {free / total:.0%} of the GPU's memory is free beside the policy",
            fix="set rollouts.gpus to apart, with a second GPU, or rollouts.engine to transformers",
        )
    return share
