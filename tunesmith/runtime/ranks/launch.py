"""Start the processes of a training, and end them together.

torchrun's own launcher starts them, ends all when one ends badly, and passes signals on. What the first process prints
is shown; what others print is kept aside, and shown only where one of them fails without an error of its own.
"""

import logging
import os
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from tunesmith.core import console, cpus, params
from tunesmith.core.errors import ParamsError
from tunesmith.runtime import settings

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

VARIABLE = settings.PROCESSES_VARIABLE
VISIBLE = "CUDA_VISIBLE_DEVICES"
RANK_MODULE = "tunesmith.runtime.ranks.rank"
"""The module that each process runs, with the stage's module and arguments."""
SHOWN = 30
"""The number of last lines shown of a failed process that left no error."""
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)
"""Exit statuses of a process that somebody stopped."""
GRACE = 10
"""Seconds that processes have to end by themselves once they are asked to stop."""
LOOPBACK = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Variables by which processes of one machine use the loopback device alone, unless the user has set them."""


def main(module: str, arguments: list[str]) -> int:
    """Run a stage with the number of processes that VARIABLE names, and return its exit status.

    Raises ParamsError where there are fewer GPUs.
    """
    stage = module.rpartition(".")[2]
    number = count(os.environ.get(VARIABLE, "auto"), *plan(stage, arguments))
    if number == 1:
        become(module, arguments, apart=asks_vllm(stage, arguments))
    return launch(number, module, arguments)


def plan(stage: str, arguments: list[str]) -> tuple[int | None, int]:
    """The examples of a step of a stage's entry, None where the rows decide, and the fewest for one process."""
    entry = _entry(stage, arguments)
    if asks_vllm(stage, arguments):
        return 1, 1  # its rollouts go with one process
    if "prompts" in entry:
        return entry["prompts"] * entry["group"], 1
    if not entry or entry.get("tokens_per_step") or stage == "reference":  # which has no steps
        return None, 1
    return entry["batch_size"] * entry.get("gradient_accumulation", 1), 2 if stage == "train_kto" else 1


def asks_vllm(stage: str, arguments: list[str]) -> bool:
    """Whether vLLM writes the completions of a stage's entry."""
    return bool(_entry(stage, arguments).get("rollouts", {}).get("engine") == "vllm")


def _entry(stage: str, arguments: list[str]) -> dict[str, Any]:
    """The effective params of a stage's entry; {} where there are none."""
    path = params.resolved(stage, *arguments[:1])
    if stage not in console.SECTIONS or not path.exists():
        return {}
    document = cast("dict[str, dict[str, dict[str, Any]]]", params.read(path))
    return document[console.SECTIONS[stage]][arguments[0]]


def count(processes: str, step: int | None = None, least: int = 1) -> int:
    """The number of processes; for auto one per GPU, or the most below that by which a step can be divided.

    step: the examples of a step, None where that is not known yet. least: the fewest for one process. Raises
    ParamsError for more than there are GPUs.
    """
    if processes == "1":
        return 1
    import torch

    gpus = torch.cuda.device_count()
    if processes == "auto":
        number = next(
            each for each in range(max(1, gpus), 0, -1) if each == 1 or not step or divides(each, step, least)
        )
        if number < gpus and step != 1:
            print(f"  {number} of {gpus} GPUs train: more cannot divide a step of {step} examples", flush=True)
        return number
    if 0 < gpus < int(processes):
        raise ParamsError(
            f"params.yaml: runtime.processes is {processes}, and {gpus} GPUs are visible",
            fix=f"set it to auto, or to at most {gpus}; one process takes one GPU",
        )
    return int(processes)


def divides(number: int, step: int, least: int) -> bool:
    """Whether so many processes can divide a step."""
    return step % number == 0 and step // number >= least


def become(module: str, arguments: list[str], *, apart: bool) -> NoReturn:
    """Become the stage, as a single process, which sees the first GPU alone. apart: it sees all, for vLLM."""
    visible = os.environ.get(VISIBLE)
    if not apart:
        os.environ[VISIBLE] = "0" if visible is None else visible.split(",")[0]
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

    The launcher ends the other processes by SIGTERM, before they report an error. Among those that ended by themselves,
    an error written for the user explains more than a signal, and a signal more than a traceback, which a process may
    leave only because another ended. logs: the folder of what all but the first process printed.
    """
    failures = sorted(error.failures.values(), key=lambda each: each.local_rank)
    by_itself = [each for each in failures if each.exitcode != -signal.SIGTERM]
    explained = [each for each in failures if each.error_file_data.get("ours")]
    killed = [each for each in by_itself if each.exitcode < 0]
    ordered = [each for each in explained if each in by_itself] + killed + explained + by_itself + failures
    failure = ordered[0]
    if failure in explained:
        print(failure.message, file=sys.stderr, flush=True)
        return max(1, failure.exitcode)
    status = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    if status in INTERRUPTED:
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
