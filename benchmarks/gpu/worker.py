"""The process that runs parts: it imports the libraries, says so, and answers each line of its input with one of JSON.

What trainers print goes to its stderr; only answers go to its stdout. It ends with its input, and after an error, since
a device that failed once may fail whatever follows.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TextIO

from benchmarks.gpu import parts

FAILURE_LINES = 12
"""Lines of a traceback that a result keeps."""


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no measurement outlives its command
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    began = time.monotonic()
    missing = _import()
    _answer(answers, {"ready": time.monotonic() - began, "missing": missing})
    for line in sys.stdin:
        asked = json.loads(line)
        if "describe" in asked:  # not before: it takes memory of the card, beside the part that is measured now
            _answer(answers, import_module("benchmarks.gpu.machine").describe())
            continue
        found = _run(asked["part"], tiny=asked["tiny"])
        _answer(answers, found)
        if "failed" in found:
            return


def _answer(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _import() -> list[str]:
    """Import what parts share; the libraries that are not installed."""
    named = {library for part in parts.PARTS for library in part.needs}
    missing = sorted(name for name in named if find_spec(name) is None)
    if (found := find_spec("datasets")) is not None:
        _check_place(str(found.origin))
    for name in ("torch", "transformers", "peft", "trl.trainer.sft_trainer", "trl.trainer.grpo_trainer"):
        if name.partition(".")[0] not in missing:
            import_module(name)
    logging = import_module("transformers.utils.logging")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return missing


def _check_place(origin: str) -> None:
    """End where dill, with which `datasets` pickles, would take a library for a user's own code."""
    if "site-packages" not in origin and not origin.startswith((sys.prefix, sys.base_prefix)):
        sys.exit(f"{origin}: dill pickles it whole; install into a folder with the name site-packages")


def _run(name: str, *, tiny: bool) -> dict[str, Any]:
    """The result of a part, or why it failed."""
    part = next(part for part in parts.PARTS if part.name == name)
    module, function = part.run.split(":")
    try:
        run = getattr(import_module(f"benchmarks.gpu.{module}"), function)
        result: dict[str, Any] = run(part.settings | (part.tiny if tiny else {}))
    except Exception as error:
        lines = traceback.format_exc().splitlines()[-FAILURE_LINES:]
        return {"failed": f"{type(error).__name__}: {error}"[:1000], "traceback": lines}
    gc.collect()
    return result
