"""Sharding of weights over the processes of a training (FSDP2): when, what it rules out, and its checkpoints.

transformers shards a model as it loads it (`DistributedConfig`): a process reads only its own shard of each tensor,
and gathers a layer from the others while it computes it. An adapter is whole in each process.

transformers saves such a model, but not its optimizer's state, and does not resume from it. So checkpoints of sharded
weights that are trained are made here: whole in the file, so that another number of processes can resume.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from transformers import Trainer

from tunesmith.core import processes
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Objective
from tunesmith.models import collectives, weights
from tunesmith.models.device import Profile
from tunesmith.models.settings import FROM_WEIGHTS
from tunesmith.planning import model_shape, workload
from tunesmith.planning import sharding as planned
from tunesmith.training import spec as specs
from tunesmith.training.entries.common import Batched, Entry
from tunesmith.training.entries.online import Online
from tunesmith.training.fit import memory_of
from tunesmith.training.spec import LargestStep

WEIGHTS, OPTIMIZER, SCHEDULER = "trained.safetensors", "whole_optimizer.pt", "scheduler.pt"
WRITTEN_BY_TRANSFORMERS = ("model*.safetensors", "model.safetensors.index.json", "optimizer.pt")
"""Files of transformers in a checkpoint that repeat the whole weights, or hold one process's shard of a state."""


def choose(objective: Objective, entry: Entry, base: Path, profile: Profile) -> Profile:
    """``profile``, sharded where `runtime.sharding` says so, or where it is auto and the weights do not fit otherwise.

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
    """Why a training cannot be sharded, and the fix; None where it can."""
    if entry.weights == "qlora":
        return "weights in 4 bits cannot be sharded", "set weights to lora"
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
    return planned.choose(model_shape.read(str(base)), work, memory_of(profile), processes.count()) == "none"


def is_divided(model: torch.nn.Module) -> bool:
    """Whether weights that are trained are sharded."""
    return any(map(collectives.is_part, weights.trained(model).values()))


def save_checkpoint(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the trained weights and the optimizer's state into a checkpoint, in place of what transformers wrote."""
    values = weights.gathered(model)
    state = get_optimizer_state_dict(
        model, _inner(optimizer), options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if processes.is_first():
        for pattern in WRITTEN_BY_TRANSFORMERS:
            for path in folder.glob(pattern):
                path.unlink()
        save_file({name: value.cpu() for name, value in values.items()}, folder / WEIGHTS)
        torch.save(state, folder / OPTIMIZER)


def keep_transformers_from_loading(trainer: Trainer) -> None:
    """Have `load_checkpoint` alone load weights when a training goes on."""
    assert hasattr(trainer, "_load_from_checkpoint")  # transformers 5.24
    trainer._load_from_checkpoint = lambda *_, **__: None


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
    """Load the weights and states of a checkpoint that `save_checkpoint` wrote."""
    values = load_file(folder / WEIGHTS) if processes.is_first() else {}
    for name, parameter in weights.trained(model).items():
        collectives.put(parameter, values.get(name))
    state = torch.load(folder / OPTIMIZER, weights_only=True) if processes.is_first() else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(model, _inner(optimizer), state, options=options)
    scheduler.load_state_dict(torch.load(folder / SCHEDULER, weights_only=True))


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """torch's optimizer under accelerate's."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
