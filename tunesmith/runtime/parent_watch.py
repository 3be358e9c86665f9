"""End a stage's engine together with its parent process, so that a killed `dvc` leaves nothing running.

The parent must be DVC itself: `exec` in dvc.yaml replaces the shell between them.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunesmith.core.errors import ContainerError

POLL_SECONDS = 0.2
"""Time between two looks at the parent."""


@contextmanager
def exiting_with_parent(clean_up: Callable[[], None]) -> Iterator[None]:
    """While the block runs, call ``clean_up`` (may raise ContainerError) and exit when the parent process ends."""
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if os.getppid() != parent:
                try:
                    clean_up()
                except ContainerError as error:
                    print(f"note: {error}", file=sys.stderr)
                finally:
                    os._exit(128 + signal.SIGHUP)

    if is_gone(parent):
        print("note: DVC has ended, so its stage does not start", file=sys.stderr)
        sys.exit(128 + signal.SIGHUP)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def is_gone(parent: int) -> bool:
    """Whether DVC ended before its stage got here. DVC is in the process group of the stages that it starts; the
    process that adopts orphans hardly ever is.
    """
    try:
        return "DVC_STAGE" in os.environ and os.getpgid(parent) != os.getpgrp()
    except ProcessLookupError:
        return True
