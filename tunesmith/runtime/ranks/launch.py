"""Start the processes of a training, and end them together.

torchrun's own launcher starts them, ends all when one ends badly, and passes signals on. What the first process prints
is seen; what others print is kept aside, and shown where one of them fails without an error of its own.
"""

import logging
import os
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tunesmith.core import cpus
from tunesmith.core.errors import ParamsError
from tunesmith.runtime import settings

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

VARIABLE = settings.PROCESSES_VARIABLE
RANK_MODULE = "tunesmith.runtime.ranks.rank"
"""The module that each process runs, with the stage's module and arguments."""
SHOWN = 30
"""Lines of a failed process that are shown where it left no error."""
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)
"""Exit statuses of a process that somebody stopped."""
GRACE = 10
"""Seconds from the end of one process to the end of all."""
LOOPBACK = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Processes of one machine talk to each other by the loopback device alone, where the user does not say otherwise."""


def main(module: str, arguments: list[str]) -> int:
    """Run a stage with the number of processes that VARIABLE names, and return its exit status.

    Raises ParamsError where there are fewer GPUs.
    """
    number = count(os.environ.get(VARIABLE, "auto"))
    if number == 1:
        become(module, arguments)
    return launch(number, module, arguments)


def count(processes: str) -> int:
    """The number of processes: as many as GPUs for auto. Raises ParamsError for more than there are GPUs."""
    if processes == "1":
        return 1
    import torch

    gpus = torch.cuda.device_count()
    if processes == "auto":
        return max(1, gpus)
    if 0 < gpus < int(processes):
        raise ParamsError(
            f"params.yaml: runtime.processes is {processes}, and {gpus} GPUs are visible",
            fix=f"set it to auto, or to at most {gpus}; one process takes one GPU",
        )
    return int(processes)


def become(module: str, arguments: list[str]) -> NoReturn:
    """Become the stage, as a single process."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def launch(number: int, module: str, arguments: list[str]) -> int:
    """Run a stage in several processes, and return the exit status of the one that failed first, 0 where none did."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # `explain` says what went wrong
    os.environ |= {name: value for name, value in LOOPBACK.items() if name not in os.environ}
    os.environ["OMP_NUM_THREADS"] = str(max(1, cpus.usable_cpus() // number))
    with tempfile.TemporaryDirectory(prefix="tunesmith-ranks-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=GRACE,
            logs_specs=DefaultLogsSpecs(logs, redirects=dict.fromkeys(range(1, number), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", RANK_MODULE, module, *arguments)
        except ChildFailedError as error:
            return explain(error, number, Path(logs))
        except SignalException as error:
            return 128 + int(error.sigval)
    return 0


def explain(error: "ChildFailedError", number: int, logs: Path) -> int:
    """Print the one error of a training whose processes ended, and return its exit status.

    An error written for the user explains more than a signal, and a signal more than a traceback, which other
    processes have because one ended. logs: the folder of what all but the first process printed.
    """
    failures = sorted(error.failures.values(), key=lambda each: (each.timestamp, each.local_rank))
    explained = [each for each in failures if each.error_file_data.get("ours")]
    by_itself = [each for each in failures if each.exitcode != -signal.SIGTERM]  # by which the launcher ends the rest
    killed = [each for each in by_itself if each.exitcode < 0]
    failure = next(iter(explained + killed + by_itself + failures))
    status = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    if status in INTERRUPTED:
        return status
    if failure in explained:
        print(failure.message, file=sys.stderr, flush=True)
        return status
    if failure.exitcode > 0:
        print(detail(failure, logs), file=sys.stderr)
    ending = f"by {failure.signal_name()}" if failure.exitcode < 0 else f"with exit status {failure.exitcode}"
    print(
        f"process {failure.local_rank + 1} of {number} ended {ending}, so all were ended", file=sys.stderr, flush=True
    )
    return status


def detail(failure: "ProcessFailure", logs: Path) -> str:
    """The traceback that a process left, or the last lines that it printed."""
    if "ours" in failure.error_file_data:
        return str(failure.message)
    texts = [path.read_text(errors="replace") for path in logs.glob(f"*/attempt_0/{failure.local_rank}/std*.log")]
    return "\n".join("\n".join(texts).splitlines()[-SHOWN:])
