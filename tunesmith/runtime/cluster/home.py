"""Run a stage of `dvc repro` as a job of a Ray cluster.

What travels is the stage's code and effective params (`plan`), and its inputs by digest, which are put into the store
where it lacks them. Ray ends the job when this process ends, however that happens.
"""

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunesmith.core import dvc_store, files, layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.dvc_store import Store
from tunesmith.core.errors import ClusterError
from tunesmith.runtime import parent_watch
from tunesmith.runtime.cluster import connection, evaluation_shares, outcome, plan, tasks, training
from tunesmith.runtime.cluster.course import Course
from tunesmith.runtime.cluster.job import Desk, Done, Job
from tunesmith.runtime.cluster.outcome import Travelled
from tunesmith.runtime.settings import Runtime
from tunesmith.runtime.staging import STAGING, Staging

POLL_SECONDS = 0.5
"""Seconds between two polls of the desk."""
SLACK_SECONDS = 5.0
"""Seconds beyond its grace period in which an interrupted stage gets the interrupt, and its end is reported."""
DESK_SECONDS = 120.0
"""Timeout for an answer of the desk."""
REASON_SECONDS = 2.0
"""Time after the failure of a rank in which others may say why it failed."""
REASON = 1500
"""The most characters shown of Ray's reason for the end of a job: its last."""


def run(stage: Stage, runtime: Runtime, root: Path | None = None) -> int:
    """Run a stage on the cluster, move its outputs to their places, and return its exit status.

    Raises ClusterError where the cluster or its nodes cannot run it, or where the job died; BusyError while the same
    stage of this project runs already.
    """
    root = (root or Path()).resolve()
    with ExitStack() as stack:
        stack.enter_context(files.only_writer(root / STAGING / stage.target))
        stack.enter_context(parent_watch.exiting_with_parent(lambda: None))
        project = layout.home(root)  # a copy in which DVC runs an experiment would read a relative address otherwise
        store = Store(dvc_store.of_project(project, runtime.shared), root=project)
        staging = Staging(root, stage, contained=False)
        course = Course(staging, plan.model(stage))
        stack.enter_context(course.alone())
        job, parts = plan.job(stage, runtime, root, store.address, staging.run, course.still_saved(store))
        try:
            travelled, done = _on_cluster(runtime, stage, job, parts, store, course)
            status = max(part.status for part in done)
            names = evaluation_shares.models(root) if job.module == plan.EVALUATE else []
            travelled.taken = outcome.fetch(done, names, job, store, staging)
            course.close(well=status == 0)
            staging.publish()
        finally:
            course.close(well=False)
        if status == 0:
            if job.model:
                store.beside(job.checkpoints.part).remove()
                course.forget()
            print(travelled.line(), flush=True)
        return status


def _on_cluster(
    runtime: Runtime, stage: Stage, job: Job, parts: list[Job], store: Store, course: Course
) -> tuple[Travelled, list[Done]]:
    """Run a job, and return the bytes that travelled and what its parts did."""
    root = course.staging.root
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "parcel.zip")
        inputs = {name: digest for part in parts for name, digest in part.inputs.items()}
        travelled = Travelled(plan.write(archive, plan.parcel_files(stage, root)), inputs=inputs)
        travelled.workers = len(parts) if job.model is None and not plan.spreads(job) else job.workers
        with connection.joined(runtime, archive):
            travelled.nodes = connection.check(runtime, job.workers if job.model or plan.spreads(job) else 1)
            travelled.put = store.put({digest: root / name for name, digest in inputs.items()})
            done = _follow(job, parts, course)
    travelled.fetched, travelled.made = course.fetched, sum(part.sent for part in done)
    travelled.restarts = max(0, course.restarts) if job.model else 0
    return travelled, done


def _follow(job: Job, parts: list[Job], course: Course) -> list[Done]:
    """Start a job on the cluster and handle its events until it ends; return what its parts did.

    Raises ClusterError where it died, and KeyboardInterrupt where it was interrupted and did not end by itself.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote(job.checkpoints)
    start: Any = ray.remote(training.fit if job.model else tasks.run)
    arguments = [job, desk] if job.model else [job, parts, desk, plan.spreads(job)]
    try:
        running = start.options(num_cpus=0, max_retries=0, scheduling_strategy=here).remote(*arguments)
        with _interrupting(job.grace) as interrupted:
            ready: list[Any] = []
            while not ready and course.failed is None:
                ready, _ = ray.wait([running], timeout=POLL_SECONDS)
                if interrupted:
                    ray.get(desk.stop.remote(), timeout=DESK_SECONDS)
                course.take(ray.get(desk.take.remote(), timeout=DESK_SECONDS))
            result: Any = ray.get(running) if ready else ""
            if course.failed is not None and job.workers > 1:  # another rank's error may be the reason
                time.sleep(REASON_SECONDS)
                course.take(ray.get(desk.take.remote(), timeout=DESK_SECONDS))
    except (RayError, GetTimeoutError) as error:
        raise _died(job, str(error)) from None
    if course.failed is not None:
        return [course.failed]
    if job.model is None:
        course.take(list(result))
        return list(result)
    if course.ended is None:
        raise _died(job, result)
    return [course.ended]


def _died(job: Job, reason: str) -> ClusterError:
    shown = reason.strip()[-REASON:] or "Ray gives no reason"
    again = "; `dvc repro` goes on from the last checkpoint" if job.model else ""
    return ClusterError(
        f"{job.target}: its job on the cluster died: {shown}",
        fix="`ray status` and the logs of the nodes say what was lost: a node that left, or a worker that was killed, "
        f"as systems do when memory is short (runtime.restarts allows {job.restarts}){again}",
    )


@contextmanager
def _interrupting(grace: float) -> Iterator[list[float]]:
    """Yield the times of interrupts. The first is for the stage; the next, or the end of its grace period, ends the
    job: KeyboardInterrupt is raised then. Ray is not called from a signal's handler, since it may hold a lock.
    """
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if first:
            raise KeyboardInterrupt
        first.append(time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, grace + SLACK_SECONDS)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield first
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
