"""Run a stage in this process, which the kernel kills when its parent ends: python -m … PARENT MODULE ARGUMENT…

A worker of Ray may be killed at any moment; its stage must not go on alone.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Tie this process to its parent, let it be interrupted, and become ``python -m`` with the words of ``command``."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # gone before
        os._exit(128 + signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it in its processes
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", *command])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
