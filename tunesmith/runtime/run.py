"""Run a stage in a process of its own, in a container or on a cluster, as `runtime` in params.yaml says."""

import os
import signal
import sys
import uuid
from pathlib import Path
from typing import NoReturn

import orjson

from tunesmith.core import console, cpus, extras, formatting, journal, layout, processes
from tunesmith.core.errors import ContainerError, TunesmithError
from tunesmith.registry.attempts import Running
from tunesmith.runtime import finished_runs, journal_follower, settings
from tunesmith.runtime.parent import end_with
from tunesmith.runtime.settings import Runtime

PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
"""Signals that this process passes on to the stage. An interrupt of the terminal reaches the stage without it."""
ENDINGS = (signal.SIGINT, *PASSED_ON)
"""Signals by which somebody stops a stage."""
KILLS = Path("/proc/vmstat")
"""The kernel's counters, with the number of processes that it killed for lack of memory."""


def run(stage: str, arguments: list[str]) -> int:
    """Run a stage to its end, or restore the outputs that the same inputs made before; return the exit status.

    Raises ParamsError for a bad `runtime`, and ContainerError where a container cannot run or a stage was killed.
    """
    runtime = settings.read()
    if finished_runs.restore(Path.cwd()):
        return 0
    if runtime.engine == "docker":
        from tunesmith.runtime import docker, stage_lookup

        declared = stage_lookup.find(stage, arguments)
        if not declared.host:
            return docker.run(declared, runtime)
    if runtime.engine == "ray":
        extras.check("ray")
        from tunesmith.runtime import stage_lookup
        from tunesmith.runtime.cluster import home

        declared = stage_lookup.find(stage, arguments)
        if not declared.network:  # this machine has the network that such a stage needs
            return home.run(declared, runtime)
    return run_here(stage, arguments, runtime)


def run_here(stage: str, arguments: list[str], runtime: Runtime) -> int:
    """Run a stage in a child process, and return its exit status. Raises ContainerError for a stage that was killed."""
    extras.check("transformers" if stage == "prepare_data" else "torch")
    killed_before, parent, run_id = kills(), os.getpid(), str(uuid.uuid4())
    model = arguments[0] if stage.startswith("train_") else None
    with journal_follower.recorded(Path.cwd(), model, run_id) as attempt:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            end_with(parent)
            become(stage, arguments, run_id, runtime, attempt)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(child, number))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if attempt is not None and status == 0:
            attempt.end_well()
    return check_status(status if status >= 0 else 128 - status, stage, arguments, killed_before)


def become(stage: str, arguments: list[str], run_id: str, runtime: Runtime, attempt: Running | None) -> NoReturn:
    """Become the stage, so that the process ID stays; another process publishes a training's journal.

    A stage that `tunesmith reproduce` runs is not published: its work tree is removed when the files are compared.
    """
    if stage.startswith("train_") and not os.environ.get(layout.RERUN_VARIABLE):
        journal_follower.start(layout.MODELS / arguments[0], run_id, [attempt.lock] if attempt else [])
    command = [sys.executable, "-m", *runtime.module(stage), *arguments]
    variables = processes.alone() | cpus.environment() | runtime.environment | {layout.RUN_VARIABLE: run_id}
    os.execve(sys.executable, command, variables)


def check_status(status: int, stage: str, arguments: list[str], killed_before: int | None) -> int:
    """Return a stage's own exit status. Raises ContainerError for an end that it could not report itself.

    killed_before: `kills` when the stage started.
    """
    numbers = [number for number in signal.Signals if 128 + number == status and number not in ENDINGS]
    target = "@".join([stage, *arguments[:1]])
    if signal.SIGKILL in numbers:
        counted = killed_before is not None and (kills() or 0) > killed_before
        why = "this machine ran out of memory" if counted else "as systems do when memory is short"
        fix = console.how_to_save_memory(stage, arguments)
        raise ContainerError(f"{target} was killed (SIGKILL): {why}{prediction(arguments)}", fix=fix)
    if numbers:
        raise ContainerError(
            f"{target} was ended by {numbers[0].name}",
            fix="a library failed; its last lines are above. If it happens again, `tunesmith doctor` looks for a cause",
        )
    return status


def kills(counters: Path = KILLS) -> int | None:
    """How many processes the kernel has killed for lack of memory since it started; None where it does not say."""
    try:
        return int(dict(line.split() for line in counters.read_text().splitlines())["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def prediction(arguments: list[str]) -> str:
    """How much memory the largest step of a killed training takes on a CPU, and how much there is; "" where unknown."""
    try:
        path = layout.MODELS / f".{arguments[0]}.partial" / journal.NAME
        start = orjson.loads(path.read_bytes().splitlines()[0])
        if start["largest_step"]["device"] != "cpu":
            return ""  # on a GPU, the memory of the machine is not what was predicted
        from tunesmith.planning import hardware, memory, model_shape, workload  # torch

        needed = memory.predict(model_shape.read(str(layout.BASE)), workload.from_journal(start)).total
    except (OSError, LookupError, ValueError, TypeError, TunesmithError):
        return ""
    return f"; its largest step takes about {formatting.size(needed)}, and there are {formatting.size(hardware.ram())}"
