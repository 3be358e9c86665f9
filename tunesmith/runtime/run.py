"""Run a stage where `runtime` in params.yaml says: in this process, or in a container."""

import os
import sys
from typing import NoReturn

from tunesmith.core import cpus
from tunesmith.runtime import settings


def run(stage: str, arguments: list[str]) -> int:
    """Run a stage to its end, and return its exit status. Raises EngineError."""
    runtime = settings.read()
    if runtime.engine == "host":
        run_here(stage, arguments)
    from tunesmith.runtime import docker, stage_lookup

    return docker.run(stage_lookup.find(stage, arguments), runtime)


def run_here(stage: str, arguments: list[str]) -> NoReturn:
    """Become the stage: the process ID stays."""
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    os.execve(sys.executable, command, os.environ | cpus.environment())
