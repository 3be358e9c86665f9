"""Run a stage where `runtime` in params.yaml says: in this process, or in a container."""

import os
import sys
import uuid
from pathlib import Path
from typing import NoReturn

from tunesmith.core import cpus, layout, variables
from tunesmith.runtime import finished_runs, journal_follower, settings


def run(stage: str, arguments: list[str]) -> int:
    """Run a stage to its end, or restore what the same inputs made before; return the exit status.

    Raises EngineError where it cannot run.
    """
    runtime = settings.read()
    if finished_runs.restore(Path.cwd()):
        return 0
    if runtime.engine == "docker":
        from tunesmith.runtime import docker, stage_lookup

        described = stage_lookup.find(stage, arguments)
        if not described.host:
            return docker.run(described, runtime)
    return run_here(stage, arguments)


def run_here(stage: str, arguments: list[str]) -> NoReturn:
    """Become the stage, so that the process ID stays; a training's journal is published beside it."""
    run_id = str(uuid.uuid4())
    if stage.startswith("train_"):
        journal_follower.start(layout.MODELS / arguments[0], run_id)
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    os.execve(sys.executable, command, os.environ | cpus.environment() | {variables.RUN: run_id})
