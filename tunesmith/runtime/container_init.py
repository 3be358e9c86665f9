"""Process 1 of a stage's container: it runs the stage, and ends with whoever started it.

Its standard input is a pipe from the engine's process on the host. When that dies, of whatever, the pipe ends, this
process exits, and the kernel ends all others in the container with it.
"""

import ctypes
import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

from tunesmith.core import cpus

OUT_OF_MEMORY, OUT_OF_PIDS, NOT_WRITABLE, SCRATCH_FULL, SHARED_MEMORY_FULL = 241, 242, 243, 244, 245
"""Exit statuses that the engine puts into words."""
WRITABLE, TERMINAL = "TUNESMITH_WRITABLE", "TUNESMITH_TERMINAL"
"""Variables: folders that must be writable, as JSON; lines x columns of the caller's terminal, or empty."""
COUNTERS = {
    OUT_OF_MEMORY: [("memory.events", "oom_kill"), ("memory/memory.oom_control", "oom_kill")],
    OUT_OF_PIDS: [("pids.events", "max"), ("pids/pids.events", "max")],
}
"""Where the kernel counts how often a limit struck, in the unified hierarchy of control groups and in the first."""
DISKS = {SCRATCH_FULL: Path("/tmp"), SHARED_MEMORY_FULL: Path("/dev/shm")}
"""Which have limits of their own."""
FULL = 2**20
"""Bytes: with fewer left, or with less than a sixteenth of it if that is less, a disk is full for what did not fit."""
PR_SET_DUMPABLE = 4
TRITON = Path("/usr/lib/triton")
"""What Triton would compile with a compiler that the image does not have: made with it, as Triton's cache keeps it."""


def main(command: list[str]) -> int:
    if not all(os.access(folder, os.W_OK) for folder in json.loads(os.environ[WRITABLE])):
        return NOT_WRITABLE
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the stage has the same user, and must not meddle here
    threading.Thread(target=_end_with_the_engine, daemon=True).start()
    give_compiled(TRITON)
    output, copying = _terminal()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env=os.environ | cpus.environment(),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.killpg(child.pid, number))
    if output is not None:
        os.close(output)
    status = _wait(child)
    if copying is not None:
        copying.join(timeout=1)  # what the stage left running may hold the terminal open
    return (limit_met() if status not in (0, 128 + signal.SIGINT) else None) or status


def limit_met() -> int | None:
    """The limit that a stage which failed has met, by its exit status."""
    counted = (limit for limit, counters in COUNTERS.items() if struck(counters))
    full = (limit for limit, disk in DISKS.items() if os.path.ismount(disk) and is_full(disk))
    return next(itertools.chain(counted, full), None)


def is_full(disk: Path) -> bool:
    usage = shutil.disk_usage(disk)
    return usage.free < min(FULL, usage.total / 16)


def give_compiled(made: Path) -> None:
    """Put it where Triton looks; an image that is not ours may have none. Triton adds to it, so it is a copy."""
    if made.is_dir():
        shutil.copytree(made, Path.home() / ".triton" / "cache", dirs_exist_ok=True)


def _end_with_the_engine() -> None:
    while os.read(0, 4096):
        pass
    os._exit(128 + signal.SIGKILL)


def _terminal() -> tuple[int | None, threading.Thread | None]:
    """A terminal for the stage where the caller has one, copied to standard output: bars are drawn as they would be."""
    if not os.environ.get(TERMINAL):
        return None, None
    ours, stages = pty.openpty()
    lines, columns = map(int, os.environ[TERMINAL].split("x"))
    termios.tcsetwinsize(stages, (lines, columns))
    copying = threading.Thread(target=_copy, args=[ours], daemon=True)
    copying.start()
    return stages, copying


def _copy(terminal: int) -> None:
    try:
        while data := os.read(terminal, 65536):
            os.write(1, data)
    except OSError:  # the last writer has closed it
        return


def _wait(child: "subprocess.Popen[bytes]") -> int:
    """The exit status of the stage, 128 + n where signal n ended it. Orphans end here too: it is process 1."""
    while True:
        ended, status = os.wait()
        if ended == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode if child.returncode >= 0 else 128 - child.returncode


def struck(counters: list[tuple[str, str]], root: Path = cpus.CGROUPS) -> bool:
    for file, name in counters:
        try:
            values: dict[str, Any] = dict(line.split() for line in (root / file).read_text().splitlines())
        except OSError:
            continue
        if int(values.get(name, 0)):
            return True
    return False


if __name__ == "__main__":
    sys.exit(main([sys.executable, "-m", *sys.argv[1:]]))
