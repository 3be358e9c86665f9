"""Which stage of dvc.yaml runs, and as what module."""

import shlex
from pathlib import Path

from tunesmith.core import dvc_project
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import EngineError

ENGINE = ["exec", "python", "-m", "tunesmith.runtime"]
"""How the command of a stage begins that runs where `runtime` says. exec: else some shells stay between it and DVC,
and outlive a DVC that is killed.
"""


def find(name: str, arguments: list[str], root: Path = Path()) -> Stage:
    """The stage in dvc.yaml whose command is this one. Raises EngineError where there is none."""
    command = [*ENGINE, name, *arguments]
    for stage in dvc_project.stages(root):
        if shlex.split(stage.command) == command:
            return stage
    raise EngineError(
        f"dvc.yaml: no stage runs `{shlex.join(command)}`, so what it may write is not known",
        fix="run a stage of dvc.yaml with its own arguments, its command written so; or set runtime.engine to host",
    )


def module(stage: Stage) -> list[str]:
    """The module that a stage is, and its arguments: what follows `python -m` in its container."""
    name, *arguments = shlex.split(stage.command)[len(ENGINE) :]
    return [f"stages.{name}", *arguments]
