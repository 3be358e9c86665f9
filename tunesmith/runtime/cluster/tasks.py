"""Run a stage as Ray tasks: one, or several that each take a share of its models."""

import uuid
from typing import Any

import ray

from tunesmith.runtime.cluster import node
from tunesmith.runtime.cluster.job import Attempt, Done, Job


def run(job: Job, parts: list[Job], desk: Any, spreads: bool) -> list[Done]:
    """Run the parts of a stage, each as a task on its own share of the cluster, and return what each did, in order.

    A task whose worker or node is lost starts again, as often as ``job.restarts``. spreads: whether the stage spreads
    its own work over the cluster, and so reserves nothing itself.
    """
    task: Any = ray.remote(_part).options(
        num_cpus=0 if spreads else job.cpus,
        num_gpus=0 if spreads else job.gpus,
        max_retries=job.restarts,
        retry_exceptions=[node.StageKilledError],
        scheduling_strategy="SPREAD",
    )
    done: list[Done] = ray.get([task.remote(part, desk, spreads) for part in parts])
    return done


def _part(job: Job, desk: Any, spreads: bool) -> Done:
    context = ray.get_runtime_context()
    attempt = Attempt(str(uuid.uuid4()), (ray.util.get_node_ip_address(),))
    variables = {
        node.CLUSTER_VARIABLE: str(context.gcs_address),
        node.PARCEL_VARIABLE: str(context.runtime_env["working_dir"]),
        node.WORKERS_VARIABLE: str(job.workers),
    }
    rank = node.Rank(0, 1, variables if spreads else {})
    done = node.run(
        job,
        attempt,
        job.checkpoints,
        rank,
        lambda events: ray.get(desk.tell.remote(events)),
        str(context.get_node_id()),
    )
    assert done is not None  # it is the first rank
    return done
