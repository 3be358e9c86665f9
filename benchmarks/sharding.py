"""What a process holds of a sharded training, measured beside what `tunesmith plan` predicts.

    python -m benchmarks.sharding [--processes 2] [--model smollm2-135m]

shards a model of random weights with torch's `fully_shard`, every decoder layer and the rest, takes two steps of AdamW
on this machine's CPUs with gloo, in float32, and counts the bytes that a process keeps of parameters, gradients and
moments, and the peak of what is gathered and of a layer's gradients in a backward pass.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from benchmarks import random_models
from tunesmith.core.params import WeightsKind
from tunesmith.models.device import Profile
from tunesmith.models.settings import Lora
from tunesmith.planning import memory, model_shape, shards
from tunesmith.planning.workload import CPU, Workload

RANK, TOKENS = 16, 16
KINDS: tuple[WeightsKind, ...] = ("lora", "qlora", "full")


def main(model: str) -> None:
    """Print a table of the first process."""
    processes, first = dist.get_world_size(), dist.get_rank() == 0
    if first:
        print(f"{model} over {processes} processes, float32, gloo\n")
        print("| weights | part | measured bytes | predicted bytes |\n|---|---|---:|---:|")
    mesh = init_device_mesh("cpu", (processes,))
    for kind in KINDS:
        for part, (measured, predicted) in measure(model, kind, mesh).items():
            if first:
                print(f"| {kind} | {part} | {measured:,} | {predicted:,} |", flush=True)


def measure(name: str, kind: WeightsKind, mesh: DeviceMesh) -> dict[str, tuple[int, int]]:
    """Bytes of each part, measured and predicted."""
    model = random_models.policy(name, kind, Profile("cpu", "cpu", torch.float32), Lora(rank=RANK)).model
    shard(model, mesh)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, foreach=False)
    tracker = FSDPMemTracker(model, optimizer)
    ids = torch.zeros((1, TOKENS), dtype=torch.long)
    gradients = 0
    with tracker:
        for _ in range(2):  # moments appear in the first
            tracker.reset_mod_stats()
            model(input_ids=ids, labels=ids).loss.backward()
            gradients = held(parameter.grad for parameter in trained)
            optimizer.step()
            optimizer.zero_grad()
    moments = held(value for state in optimizer.state.values() for value in state.values() if value.dim())
    work = Workload(objective="sft", weights=kind, batch=1, length=TOKENS, machine=CPU, rank=RANK)
    work = replace(work, processes=mesh.size(), sharding="full")
    shape = model_shape.read(name)
    predicted, count = memory.predict(shape, work), memory.trainable(shape, work)
    return {
        "weights": (held(model.parameters()) + constants(model), predicted.weights + predicted.adapter),
        "gradients": (gradients, predicted.gradients),
        "moments": (moments, predicted.optimizer),
        "gathered": (peak(tracker, "Unsharded Param", "All Gather"), shards.gathered(shape, work, count)),
    }


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every decoder layer, and the rest as one; an adapter stays whole, as in a training."""
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    adapter = trained if len(trained) < len([*model.parameters()]) else set[nn.Parameter]()
    for module in [*model.modules()]:
        if type(module).__name__.endswith("DecoderLayer"):
            fully_shard(module, mesh=mesh, ignored_params=adapter)
    fully_shard(model, mesh=mesh, ignored_params=adapter)


def held(tensors: Iterable[Tensor | None]) -> int:
    """Bytes that this process holds of tensors."""
    own = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors if tensor is not None)
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def constants(model: nn.Module) -> int:
    """Bytes of what bitsandbytes keeps beside 4-bit weights."""
    states = (getattr(module, "quant_state", None) for module in model.modules())
    return sum(held([state.absmax, state.state2.absmax]) for state in states if state is not None)


def peak(tracker: FSDPMemTracker, *kinds: str) -> int:
    """The most bytes that tensors of ``kinds`` took together, of the moments in backward passes that were kept."""
    totals = [0]
    for stats in tracker.memory_tracking.values():
        for state, snapshots in stats.snapshots.items():
            for snapshot in snapshots if "Backward" in state.value else []:
                sizes = {str(getattr(key, "value", key)): size for key, size in snapshot[torch.device("cpu")].items()}
                totals.append(sum(sizes.get(kind, 0) for kind in kinds))
    return max(totals)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    if "RANK" not in os.environ:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={arguments.processes}"]
        raise SystemExit(subprocess.call([*command, "-m", "benchmarks.sharding", *sys.argv[1:]]))
    dist.init_process_group("gloo")
    main(arguments.model)
    dist.destroy_process_group()
