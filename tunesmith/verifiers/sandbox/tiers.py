"""Run generated code that may do anything, and let nothing out of it but plain values.

    with started(tier(), "candidate") as [process]:
        process.send(...)

Two tiers, and the first that passes its own self-test on this machine is used: bubblewrap with namespaces, else
Landlock, which works inside a default container. Both under the same system call filter, resource limits, wall clock
and size of answers, so that a program gets the same verdict in both; where neither holds, code is refused. Never in
the process that asks. Inside is a bare interpreter with the standard library, without threads, subprocesses, sockets,
a writable place or packages: a program that needs one of these fails.
"""

import functools
import threading
from typing import get_args

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.sandbox import selftest
from tunesmith.verifiers.sandbox.process import LIMITS, BrokenOffError, Limits, Process, Tier, TooLateError, started

__all__ = ["LIMITS", "BrokenOffError", "Limits", "Process", "Tier", "TooLateError", "started"]

TIERS: tuple[Tier, ...] = get_args(Tier)
FIX = (
    "install bubblewrap (Debian, Fedora: `bubblewrap`) where user namespaces are allowed, or run on Linux 5.13 or "
    "newer with `landlock` in /sys/kernel/security/lsm (boot with `lsm=landlock,...`)"
)
_testing = threading.Lock()


def tier() -> Tier:
    """The tier to run code in. The self-tests run once a process. Raises SandboxError where none passes."""
    for name in TIERS:
        if broken(name) is None:
            return name
    raise SandboxError("no sandbox holds here: " + "; ".join(str(broken(name)) for name in TIERS), fix=FIX)


def broken(name: Tier) -> str | None:
    """Why a tier may not be used on this machine, or None."""
    with _testing:
        return _broken(name)


@functools.cache
def _broken(name: Tier) -> str | None:
    return selftest.broken(name)
