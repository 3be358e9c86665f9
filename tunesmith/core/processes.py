"""The processes that train one model together: the rank of this one, and their number.

torchrun's variables name them, which `tunesmith.runtime.ranks` and Ray Train set; without them there is one process.
The first process alone writes the journal, checkpoints and the model; each error is reported once.
"""

import json
import os
import time
from pathlib import Path

from tunesmith.core.params import Sharding

SHARDING_VARIABLE = "TUNESMITH_SHARDING"
"""The variable that says whether a model's weights are sharded over the processes: a `Sharding`."""
LINGERING = 10
"""Seconds that a process other than the first waits after an error before it exits; the launcher may end it sooner."""
ERROR_VARIABLE = "TORCHELASTIC_ERROR_FILE"
"""The variable that names the file in which a process leaves its error for the one that started it."""


def rank() -> int:
    """The rank of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """The number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the first process, which writes what only one process may write."""
    return rank() == 0


def sharding() -> Sharding:
    """Whether the weights are to be sharded over the processes."""
    value = os.environ.get(SHARDING_VARIABLE, "auto")
    return "none" if value == "none" else "full" if value == "full" else "auto"


def alone() -> dict[str, str]:
    """The environment of a process on its own: without the variables of processes that train together."""
    names = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    return {name: value for name, value in os.environ.items() if name not in names}


def report(message: str, *, ours: bool) -> bool:
    """Leave the error of this process for the one that started it; False where none reads it.

    ours: whether the message was written for the user; a traceback may only show that another process ended.
    """
    if count() == 1 or not (path := os.environ.get(ERROR_VARIABLE)):
        return False
    Path(path).write_text(json.dumps({"message": message, "timestamp": int(time.time()), "ours": ours}))
    if not is_first():
        time.sleep(LINGERING)  # all are ended once one ends, and the first may have much to remove
    return True
