"""Train by Ray Train's TorchTrainer: a group of workers, each of which runs the stage as one rank of `torchrun` would.

Ray watches the group and starts it again where a worker or a node is lost, and each start goes on from the newest
checkpoint that the store has. The process group of torch is the stages' own: these workers only start them.
"""

import socket
import uuid
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer

from tunesmith.runtime.cluster import node, node_cache
from tunesmith.runtime.cluster.job import Attempt, Job, Saved


def fit(job: Job, desk: Any) -> str:
    """Run a training to its end, and return the error that ended it; "" where `Done` has reported it.

    desk: the actor that is home's mailbox.
    """
    resources = {"CPU": float(job.cpus)} | ({"GPU": job.gpus} if job.gpus else {})
    trainer = TorchTrainer(
        _rank,
        train_loop_config={"job": job, "desk": desk},
        torch_config=TorchConfig(backend="gloo"),  # of these workers, which hold no model
        scaling_config=ScalingConfig(
            num_workers=job.workers, use_gpu=bool(job.gpus), resources_per_worker=resources, placement_strategy="PACK"
        ),
        run_config=RunConfig(
            name=job.run,
            storage_path=str(
                node_cache.own(node_cache.folder()) / "ray"
            ),  # Ray keeps its notes there, and no model or checkpoint
            failure_config=FailureConfig(max_failures=job.restarts),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # TrainingFailedError and its kin, whose causes Ray has as text
        return str(error).strip() or type(error).__name__
    return ""


def _rank(config: dict[str, Any]) -> None:
    """Run a rank of the stage. Raises StageKilledError where a signal ended it, so that Ray starts the group again."""
    job, desk, context = config["job"], config["desk"], get_context()
    here: dict[str, Any] | None = None
    if context.get_world_rank() == 0:
        here = {"run": str(uuid.uuid4()), "address": ray.util.get_node_ip_address(), "port": _free_port()}
        here["saved"] = ray.get(desk.newest.remote())  # asked once: a rank of the group before may still tell of one
    first: Any = broadcast_from_rank_zero(here)
    saved: Saved = first["saved"]
    number, of = context.get_world_rank(), context.get_world_size()
    variables = {
        "RANK": number,
        "WORLD_SIZE": of,
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "NODE_RANK": context.get_node_rank(),
        "MASTER_ADDR": first["address"],
        "MASTER_PORT": first["port"],
    }
    attempt = Attempt(first["run"], (ray.util.get_node_ip_address(),), saved.step)
    # One alone is no group: its weights are those of a process at home.
    rank = node.Rank(number, of, {name: str(value) for name, value in variables.items()} if of > 1 else {})
    done = node.run(job, attempt, saved, rank, lambda events: ray.get(desk.tell.remote(events)), _node())
    if done is not None:
        ray.get(desk.tell.remote([done]))


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as listening:
        listening.bind(("", 0))
        return int(listening.getsockname()[1])
