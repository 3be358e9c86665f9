"""Whether the processes of a training divide the weights among them (FSDP2), and what that rules out.

transformers shards a model as it loads it (`DistributedConfig`): a process reads its own part of each tensor alone, and
puts a layer together, by what the others send, while it computes it. An adapter stays whole in each process.
"""

from dataclasses import replace
from pathlib import Path

from peft import LoraConfig

from tunesmith.core import processes
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Objective
from tunesmith.models.device import Profile
from tunesmith.models.settings import FROM_WEIGHTS
from tunesmith.planning import model_shape, sharding, workload
from tunesmith.training import spec as specs
from tunesmith.training.entries.common import Batched, Entry
from tunesmith.training.entries.online import Online
from tunesmith.training.fit import memory_of
from tunesmith.training.spec import LargestStep


def choose(objective: Objective, entry: Entry, base: Path, profile: Profile) -> Profile:
    """``profile``, sharded where `runtime.sharding` says so, or where it is auto and nothing else fits.

    base: the folder of the base's weights. Raises ParamsError for a training that cannot be sharded.
    """
    wanted = processes.sharding()
    if processes.count() == 1 or wanted == "none":
        return profile
    problem = _hindrance(entry)
    if wanted == "auto" and (problem or _fits(objective, entry, base, profile)):
        return profile
    if problem:
        raise ParamsError(
            f"{objective}: runtime.sharding is full, and {problem[0]}",
            fix=f"{problem[1]}, or set runtime.sharding to none, which gives every process all weights",
        )
    return replace(profile, sharded=True)


def _hindrance(entry: Entry) -> tuple[str, str] | None:
    """Why a training cannot be sharded, and what could; None where it can."""
    if entry.weights == "qlora":
        return "weights in 4 bits cannot be divided", "set weights to lora"
    if entry.weights == "full":
        if entry.optimizer != "adamw":
            return f"optimizer: {entry.optimizer} needs whole weights", "set optimizer to adamw"
        if isinstance(entry, Online) and entry.beta > 0:
            return "beta needs a second model of full weights as reference", "set beta to 0, or weights to lora"
        return None
    if entry.lora.init in FROM_WEIGHTS or entry.lora.dora or entry.lora.embeddings:
        return "lora.init, dora or embeddings need whole weights", "leave them out"
    return None


def _fits(objective: Objective, entry: Entry, base: Path, profile: Profile) -> bool:
    """Whether each process has room for all weights in the lightest step that the params allow."""
    batch = 2 if objective == "kto" else 1
    if isinstance(entry, Online):
        new, reference = entry.max_new_tokens, entry.beta > 0
        step = LargestStep(batch=batch, length=entry.max_prompt_length + new, completion=new, reference=reference)
    else:
        assert isinstance(entry, Batched)
        step = LargestStep(batch=batch, length=entry.max_length)
    adapter = None
    if entry.weights != "full":
        adapter = LoraConfig(r=entry.lora.rank, target_modules=entry.lora.targets, use_dora=entry.lora.dora)
    lightest = replace(profile, gradient_checkpointing=entry.checkpointing != "never")
    event = specs.step_event(entry, adapter, step, lightest)
    work = workload.from_journal({"objective": objective, "weights": entry.weights, "largest_step": event})
    return sharding.choose(model_shape.read(str(base)), work, memory_of(profile), processes.count()) == "none"
