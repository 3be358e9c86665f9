"""Run a stage here: the process becomes the stage."""

import os
import sys
from typing import NoReturn

from tunesmith import threads


def run(stage: str, arguments: list[str]) -> NoReturn:
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    os.execve(sys.executable, command, os.environ | threads.environment())
