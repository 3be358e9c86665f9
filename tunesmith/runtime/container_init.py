"""Process 1 of a stage's container: it runs the stage, and ends together with the process that started it.

Its standard input is a pipe from that process on the host. However that one dies, the pipe ends, this process exits,
and the kernel ends all other processes of the container.
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

from tunesmith.core import cpus

OUT_OF_MEMORY, OUT_OF_PIDS, NOT_WRITABLE, SCRATCH_FULL, SHARED_MEMORY_FULL = 241, 242, 243, 244, 245
"""Exit statuses that `container_options.check_status` turns into errors."""
WRITABLE, TERMINAL = "TUNESMITH_WRITABLE", "TUNESMITH_TERMINAL"
"""Variables: the folders that must be writable, as JSON; lines x columns of the caller's terminal, or empty."""
COUNTERS = {
    OUT_OF_MEMORY: [("memory.events", "oom_kill"), ("memory/memory.oom_control", "oom_kill")],
    OUT_OF_PIDS: [("pids.events", "max"), ("pids/pids.events", "max")],
}
"""The kernel's counters of how often a limit was hit, by exit status: (file, name) in cgroups version 2, then 1."""
DISKS = {SCRATCH_FULL: Path("/tmp"), SHARED_MEMORY_FULL: Path("/dev/shm")}
"""Disks with limits of their own, by exit status."""
FULL = 2**20
"""Free bytes below which a disk counts as full; on a small disk, a sixteenth of its size."""
PR_SET_DUMPABLE = 4
HF_HOME = Path("/tmp/huggingface")
"""The scratch of Hugging Face's libraries."""
DATASETS = Path("/caches/datasets")
"""The host's cache of `datasets`, read-only."""
TRITON = Path("/usr/lib/triton")
"""A Triton cache that was compiled when the image was built, since the image has no compiler."""


def main(command: list[str]) -> int:
    """Run the stage and return its exit status, or the one of the limit that ended it."""
    if not all(os.access(folder, os.W_OK) for folder in json.loads(os.environ[WRITABLE])):
        return NOT_WRITABLE
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the stage, of the same user, must not trace this process
    threading.Thread(target=_exit_with_pipe, daemon=True).start()
    copy_triton_cache(TRITON)
    link_datasets(DATASETS, HF_HOME / "datasets")
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
        copying.join(timeout=1)  # a process that the stage left running may hold the terminal open
    return (exceeded_limit() if status not in (0, 128 + signal.SIGINT) else None) or status


def exceeded_limit() -> int | None:
    """The exit status of the limit that a failed stage ran into; None where it ran into no limit."""
    counted = (limit for limit, counters in COUNTERS.items() if is_counted(counters))
    full = (limit for limit, disk in DISKS.items() if os.path.ismount(disk) and is_full(disk))
    return next(itertools.chain(counted, full), None)


def is_full(disk: Path) -> bool:
    usage = shutil.disk_usage(disk)
    return usage.free < min(FULL, usage.total / 16)


def copy_triton_cache(compiled: Path) -> None:
    """Copy the compiled cache, if the image has one, to where Triton looks for it and adds to it."""
    if compiled.is_dir():
        shutil.copytree(compiled, Path.home() / ".triton" / "cache", dirs_exist_ok=True)


def link_datasets(cache: Path, scratch: Path) -> None:
    """Link every cached data set into the scratch folder: `datasets` writes beside what it reads."""
    if cache.is_dir():
        shutil.copytree(cache, scratch, copy_function=os.symlink, ignore=shutil.ignore_patterns("*.lock"))


def _exit_with_pipe() -> None:
    """Exit when the pipe from the host ends."""
    while os.read(0, 4096):
        pass
    os._exit(128 + signal.SIGKILL)


def _terminal() -> tuple[int | None, threading.Thread | None]:
    """A terminal for the stage where the caller has one, copied to standard output, so that progress bars work."""
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
    """The exit status of the stage, 128 + n where signal n ended it. Also reaps orphans, as process 1 must."""
    while True:
        process, status = os.wait()
        if process == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode if child.returncode >= 0 else 128 - child.returncode


def is_counted(counters: list[tuple[str, str]], root: Path = cpus.CGROUPS) -> bool:
    """Whether one of the kernel's counters is above zero."""
    for file, name in counters:
        try:
            values = dict(line.split(maxsplit=1) for line in (root / file).read_text().splitlines())
        except OSError:
            continue
        if int(values.get(name, 0)):
            return True
    return False


if __name__ == "__main__":
    sys.exit(main([sys.executable, "-m", *sys.argv[1:]]))
