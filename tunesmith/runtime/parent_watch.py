"""A stage's engine ends when whoever started it does: a killed `dvc` leaves nothing running.

That must be DVC itself, so a shell between them has to make way (`exec` in dvc.yaml).
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunesmith.core.errors import EngineError

LOOK = 0.2
"""Seconds between two looks at the parent."""


@contextmanager
def ended_with(clean_up: Callable[[], None]) -> Iterator[None]:
    """While the block runs, end this process when its parent does. clean_up: is called first; may raise EngineError."""
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            if os.getppid() != parent:
                try:
                    clean_up()
                except EngineError as error:
                    print(f"note: {error}", file=sys.stderr)
                finally:
                    os._exit(128 + signal.SIGHUP)

    if is_gone(parent):
        print("note: DVC is gone, so its stage does not begin", file=sys.stderr)
        sys.exit(128 + signal.SIGHUP)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def is_gone(parent: int) -> bool:
    """Whether DVC died before its stage came here. It is of the same group of processes as what it starts; whoever
    adopts orphans hardly ever is.
    """
    try:
        return "DVC_STAGE" in os.environ and os.getpgid(parent) != os.getpgrp()
    except ProcessLookupError:
        return True
