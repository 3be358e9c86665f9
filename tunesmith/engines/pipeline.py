"""What dvc.yaml says of the stage that runs."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from tunesmith import dvc_project
from tunesmith.errors import EngineError


@dataclass(frozen=True)
class Stage:
    """name: such as train_sft@lora. command: a module and its arguments. outputs: from the project's root.

    network: whether it declares one.
    """

    name: str
    command: tuple[str, ...]
    outputs: tuple[Path, ...]
    network: bool


def find(module: str, arguments: list[str], root: Path = Path()) -> Stage:
    """The stage in dvc.yaml whose command is this one. Raises EngineError where there is none."""
    command = ["python", "-m", "tunesmith.engines", module, *arguments]
    for stage in dvc_project.stages(root):
        if shlex.split(stage.command) == command:
            return Stage(stage.target, (f"stages.{module}", *arguments), stage.outs, stage.network)
    raise EngineError(
        f"dvc.yaml: no stage runs `{shlex.join(command)}`, so what it may write is not known",
        fix="run a stage of dvc.yaml with its own arguments, or set runtime.engine to host",
    )
