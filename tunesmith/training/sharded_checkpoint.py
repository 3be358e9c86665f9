"""Checkpoints of trained weights that processes divide: whole in the file, so that another number of them can go on.

transformers saves and loads a model that it sharded, but not its optimizer's state, and does not resume from it. All
processes call these functions together.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from transformers import Trainer

from tunesmith.core import processes
from tunesmith.models import collectives, weights

WEIGHTS, OPTIMIZER, SCHEDULER = "trained.safetensors", "whole_optimizer.pt", "scheduler.pt"
WRITTEN_BY_TRANSFORMERS = ("model*.safetensors", "model.safetensors.index.json", "optimizer.pt")
"""Its files in a checkpoint that have whole weights once more, or a single process's part of a state."""


def is_needed(model: torch.nn.Module) -> bool:
    """Whether processes divide weights that are trained."""
    return any(map(collectives.is_part, weights.trained(model).values()))


def save(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
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
    """Have `load` alone load weights when a training goes on (transformers 5.23, `Trainer._load_from_checkpoint`)."""
    trainer._load_from_checkpoint = lambda *_, **__: None


def load(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
    """Take up the weights and states of a checkpoint that `save` finished."""
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
