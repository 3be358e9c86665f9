"""The first tier: bubblewrap, with namespaces of its own for users, processes, network, IPC and mounts.

The root folder holds the interpreter and the libraries, read-only, and the null device: no ``/proc``, no ``/dev/shm``,
no ``/tmp``, and empty folders in place of installed packages. `seccomp` forbids new namespaces, so
``--disable-userns`` (not known to older versions) adds nothing.
"""

import os

from tunesmith.verifiers.sandbox import interpreter, seccomp

NOBODY = "65534"


def command(filter_descriptor: int) -> list[str]:
    """bubblewrap's command line, up to the command to run. It reads the filter of system calls from the descriptor."""
    binds = [part for path in interpreter.readable() for part in ("--ro-bind", str(path), str(path))]
    for path in interpreter.hidden():
        binds += ["--tmpfs", str(path), "--remount-ro", str(path)]
    return [
        "bwrap",
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session"),
        *binds,
        *("--dev-bind", "/dev/null", "/dev/null", "--remount-ro", "/", "--chdir", "/"),
        *("--seccomp", str(filter_descriptor), "--"),
    ]


def open_filter() -> int:
    """A descriptor from which the filter of system calls can be read once."""
    program = seccomp.program(execve=True)
    reading, writing = os.pipe()
    os.write(writing, program)
    os.close(writing)
    return reading
