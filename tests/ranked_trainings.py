"""Train models of a project one after another, in float32: `python -m ranked_trainings FOLDER STAGE/ENTRY...`.

Several processes run it together, by `tunesmith.runtime.ranks.launch`.
"""

import importlib
import os
import sys

import method_project

from tunesmith.models import device
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    os.chdir(folder)
    device.has_bfloat16_instructions = lambda: False
    catalog.VERIFIERS["number"] = Verifier(method_project.parity)
    for name in names:
        stage, entry = name.split("/")
        importlib.import_module(f"stages.{stage}").main(entry)
