"""What the processes of a training exchange: their values, work that is spread over them, a sharded model."""

import atexit
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from tunesmith.core import processes

T = TypeVar("T")
R = TypeVar("R")
PATIENCE = timedelta(hours=6)
"""Timeout of a wait for other processes: one may save a large model, or grade answers, while others wait."""


def join(device: str) -> None:
    """Join the process group, where there are several processes, each on its own device. device: "cpu" or "cuda"."""
    if processes.count() > 1:
        if not distributed.is_initialized():
            atexit.register(part)
        PartialState(cpu=device == "cpu", timeout=PATIENCE)


def part() -> None:
    """Leave the process group, at the end of this process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def gathered(value: T) -> list[T]:
    """The value of every process, by rank."""
    if processes.count() == 1:
        return [value]
    values: list[Any] = [None] * processes.count()
    distributed.all_gather_object(values, value)
    return values


def of_first(value: T) -> T:
    """The value of the first process, in all of them."""
    if processes.count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def once(compute: Callable[[], T]) -> T:
    """What the first process computes, in all of them: for what is expensive, or random."""
    return of_first(compute() if processes.is_first() else cast("T", None))


def total(value: int) -> int:
    """The sum of the values of all processes."""
    return sum(gathered(value))


def wait() -> None:
    """Wait until all processes have called this."""
    if processes.count() > 1:
        distributed.barrier()


def spread(model: torch.nn.Module, items: Sequence[T], compute: Callable[[list[T]], list[R]]) -> list[R]:
    """``compute`` of items, in their order, each computed by one of the processes, which all call this.

    With a sharded model every process computes all items: each needs the others' shard of every layer.
    """
    number = processes.count()
    if number == 1 or is_sharded(model):
        return compute(list(items))
    results: list[R | None] = [None] * len(items)
    for rank, part in enumerate(gathered(compute(list(items[processes.rank() :: number])))):
        results[rank::number] = part
    return cast("list[R]", results)


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether each process holds only a shard of the weights (FSDP2)."""
    return processes.count() > 1 and any(isinstance(module, FSDPModule) for module in model.modules())


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from the shards of all processes, which all call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def join_tied_weights(model: torch.nn.Module) -> None:
    """Have each process hold one shard of a weight that modules of a sharded model share; before the first pass.

    transformers 5.24 shards a model before it ties the weights, so that FSDP2 counts an embedding and the output head
    tied to it as two parameters. Both are gathered; and where rows do not divide evenly among processes, each of the
    two pads its shard into memory of its own, of which an optimizer updates one. What is kept is the shard of the
    outermost module, which stays gathered for a whole pass.
    """
    order = {module: place for place, module in enumerate(model.modules())}
    states = [module._get_fsdp_state() for module in order if isinstance(module, FSDPModule)]
    groups = dict.fromkeys(group for state in states for group in state._fsdp_param_groups)  # torch 2.13
    shards: dict[Tensor, list[Any]] = {}
    for shard in (shard for group in groups for shard in group.fsdp_params):
        info = shard._module_info
        shards.setdefault(getattr(info.module, info.param_name), []).append(shard)
    for same in shards.values():  # the module that a state dict reads first has the hook that reshards before it
        first, *others = sorted((shard._module_info for shard in same), key=lambda info: order[info.module])
        first.shared_modules += [info.module for info in others]
        first.shared_param_names += [info.param_name for info in others]
        same[0]._module_info = first
    kept = {same[0] for same in shards.values()}
    for group in groups:
        group.fsdp_params[:] = [shard for shard in group.fsdp_params if shard in kept]
    for state in states:
        state._fsdp_param_groups[:] = [group for group in state._fsdp_param_groups if group.fsdp_params]


def reshard(model: torch.nn.Module) -> None:
    """Leave each process its own shard alone: after a pass, some layers stay gathered, as plain tensors."""
    if processes.count() > 1:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def is_part(tensor: Tensor) -> bool:
    """Whether a tensor is sharded over the processes."""
    return isinstance(tensor, DTensor)


def own(tensor: Tensor) -> Tensor:
    """The shard of a tensor that this process holds."""
    detached = tensor.detach()
    return detached.to_local() if isinstance(detached, DTensor) else detached


@torch.no_grad()
def put(parameter: Tensor, values: Tensor | None) -> None:
    """Set a parameter, in all processes, to the values that the first one has."""
    if processes.count() == 1:
        assert values is not None
        parameter.copy_(values)
        return
    local = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
    if values is not None:
        local.copy_(values)
    if isinstance(parameter, DTensor):
        parameter.copy_(distribute_tensor(local, parameter.device_mesh, parameter.placements))
    else:
        distributed.broadcast(local, src=0)
        parameter.copy_(local)


def without_gradients(model: torch.nn.Module) -> AbstractContextManager[None]:
    """A context without gradients. A sharded model's weights (DTensor) cannot be used in inference mode."""
    return torch.no_grad() if is_sharded(model) else torch.inference_mode()
