"""Processes that end together with the one that started them."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have the kernel end this process, and what it becomes, together with its parent, on Linux."""
    if (tie := getattr(ctypes.CDLL(None), "prctl", None)) is not None:
        tie(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # gone before
        os._exit(128 + signal.SIGKILL)
