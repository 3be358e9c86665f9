"""Find the stage of dvc.yaml that a command runs."""

import shlex
from pathlib import Path

from tunesmith.core import dvc_project
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError

PREFIX = ["exec", "python", "-m", "tunesmith.runtime"]
"""Beginning of the command of a stage that runs where `runtime` says. Without exec some shells would stay between it
and DVC, and outlive a DVC that is killed.
"""


def find(name: str, arguments: list[str], root: Path = Path()) -> Stage:
    """The stage in dvc.yaml that has this command. Raises ContainerError where no stage has it."""
    command = [*PREFIX, name, *arguments]
    for stage in dvc_project.stages(root):
        if shlex.split(stage.command) == command:
            return stage
    raise ContainerError(
        f"dvc.yaml: no stage runs `{shlex.join(command)}`, so its outputs are not known",
        fix="run a stage of dvc.yaml with its own arguments and exactly that command; or set runtime.engine to host",
    )


def words(stage: Stage) -> list[str]:
    """The name of a stage, as in its command, and its arguments."""
    return shlex.split(stage.command)[len(PREFIX) :]
