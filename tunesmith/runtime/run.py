"""Run a stage in this process or in a container, as `runtime` in params.yaml says."""

import os
import sys
import uuid
from pathlib import Path
from typing import NoReturn

from tunesmith.core import cpus, extras, layout
from tunesmith.runtime import finished_runs, journal_follower, settings


def run(stage: str, arguments: list[str]) -> int:
    """Run a stage to its end, or restore the outputs that the same inputs made before; return the exit status.

    Raises ParamsError for a bad `runtime`, and EngineError where a container cannot run.
    """
    runtime = settings.read()
    if finished_runs.restore(Path.cwd()):
        return 0
    if runtime.engine == "docker":
        from tunesmith.runtime import docker, stage_lookup

        declared = stage_lookup.find(stage, arguments)
        if not declared.host:
            return docker.run(declared, runtime)
    return run_here(stage, arguments)


def run_here(stage: str, arguments: list[str]) -> NoReturn:
    """Become the stage, so that the process ID stays; another process publishes a training's journal.

    A stage that `tunesmith reproduce` runs is not published: its work tree is removed when the files are compared.
    """
    extras.check("transformers" if stage == "prepare_data" else "torch")
    run_id = str(uuid.uuid4())
    if stage.startswith("train_") and not os.environ.get(layout.RERUN_VARIABLE):
        journal_follower.start(layout.MODELS / arguments[0], run_id)
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    os.execve(sys.executable, command, os.environ | cpus.environment() | {layout.RUN_VARIABLE: run_id})
