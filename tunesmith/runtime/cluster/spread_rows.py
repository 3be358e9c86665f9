"""Run a stage whose rows are checked in blocks, and have the cluster check them: python -m … stages.prepare_data NAME.

The stage runs here as it is; only `data.parallel` hands its blocks to actors of the cluster, which hold the checker;
results come back in the order of the blocks. So the stage writes the same bytes as anywhere.
"""

import collections
import os
import pickle
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from tunesmith.data import parallel
from tunesmith.runtime.cluster import node


class Checker:
    """An actor that applies a function to items."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}  # each CPU has its actor already
        self.work = work

    def check(self, item: Any) -> bytes:
        """Apply the function to an item; pickled, since Ray hands over arrays that cannot be written to."""
        return pickle.dumps(self.work(item))


def ordered(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Yield ``work(item)`` for every item, in the order of the items; about two items an actor are in flight.

    An actor that is lost starts again, and so do its items.
    """
    count = int(os.environ[node.WORKERS_VARIABLE])
    actor: Any = ray.remote(Checker).options(
        num_cpus=1, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
    )
    held = ray.put(work)
    actors = [actor.remote(held) for _ in range(count)]
    pending: collections.deque[Any] = collections.deque()
    for number, item in enumerate(items):
        pending.append(actors[number % count].check.remote(item))
        if len(pending) > 2 * count:
            yield _result(pending.popleft())
    while pending:
        yield _result(pending.popleft())


def _result(pending: Any) -> Any:
    """An actor's result. Raises what its function raised."""
    try:
        return pickle.loads(ray.get(pending))
    except RayTaskError as error:
        raise error.cause from None


def main(module: str, arguments: list[str]) -> None:
    """Join the cluster, then run the stage's module in this process."""
    parcel = os.environ[node.PARCEL_VARIABLE]
    ray.init(
        address=os.environ[node.CLUSTER_VARIABLE],
        runtime_env={"working_dir": parcel},
        log_to_driver=False,
        logging_level="ERROR",
    )
    parallel.elsewhere = ordered
    sys.argv = [str(Path(*module.split(".")).with_suffix(".py")), *arguments]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
