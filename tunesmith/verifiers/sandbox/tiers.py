"""Run generated code that may do anything, and let nothing out of it but plain values.

    with open_processes(tier(), "candidate") as [process]:
        process.send(...)

There are two tiers, and the first that passes its own self-test on this machine is used: bubblewrap with namespaces,
else Landlock, which works inside a default container. Both have the same filter of system calls and the same limits
on resources, time and replies, so that a program gets the same verdict in both; where neither holds, code is refused.
Code never runs in the calling process. Inside is a bare interpreter with the standard library, without threads,
subprocesses, sockets, a writable place or packages: a program that needs one of these fails.
"""

import functools
import threading
from typing import get_args

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.sandbox import selftest
from tunesmith.verifiers.sandbox.process import (
    LIMITS,
    DeadlineError,
    Limits,
    Process,
    ProcessError,
    Tier,
    open_processes,
)

__all__ = ["LIMITS", "DeadlineError", "Limits", "Process", "ProcessError", "Tier", "open_processes"]

TIERS: tuple[Tier, ...] = get_args(Tier)
FIX = (
    "install bubblewrap (Debian, Fedora: `bubblewrap`) where user namespaces are allowed, or run on Linux 5.13 or "
    "newer with `landlock` in /sys/kernel/security/lsm (boot with `lsm=landlock,...`)"
)
_self_test_lock = threading.Lock()


def tier() -> Tier:
    """The tier to run code in. The self-tests run once a process. Raises SandboxError where neither passes."""
    for name in TIERS:
        if failure(name) is None:
            return name
    raise SandboxError("no sandbox holds here: " + "; ".join(str(failure(name)) for name in TIERS), fix=FIX)


def failure(name: Tier) -> str | None:
    """The reason why a tier may not be used on this machine, or None."""
    with _self_test_lock:
        return _self_test(name)


@functools.cache
def _self_test(name: Tier) -> str | None:
    return selftest.failure(name)
