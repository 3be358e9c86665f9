"""Train models of a project one after another, in float32: `python -m ranked_trainings FOLDER STAGE/ENTRY...`.

Several processes run it together, by `tunesmith.runtime.ranks.launch`. Where DIES names a rank and a step, that process
kills itself there, once.
"""

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import method_project

from tunesmith.core import processes
from tunesmith.models import device
from tunesmith.training.journal_callback import Recorder
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

DIES = "TUNESMITH_TEST_DIES"
"""The variable with a rank and a step: 1:3."""


def die_once(rank: int, step: int) -> None:
    """Have the process of a rank kill itself at the end of a step, unless the file `died` says that it did."""
    log = Recorder.on_log

    def on_log(self: Recorder, args: Any, state: Any, *others: Any, **settings: Any) -> None:
        log(self, args, state, *others, **settings)
        if processes.rank() == rank and state.global_step == step and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Recorder.on_log = on_log


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    os.chdir(folder)
    device.has_bfloat16_instructions = lambda: False
    catalog.VERIFIERS["number"] = Verifier(method_project.parity)
    if DIES in os.environ:
        die_once(*map(int, os.environ[DIES].split(":")))
    for name in names:
        stage, entry = name.split("/")
        importlib.import_module(f"stages.{stage}").main(entry)
