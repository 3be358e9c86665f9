"""A stage that tries what no stage may do: `python -m stages.hostile ATTEMPT`. The result is in out/<attempt>.json."""

import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

FORBIDDEN = [
    "params.yaml",
    "new-file",
    "out/other.json",
    "stages/hostile.py",
    "build/code/hostile",
    ".git/hooks/post-commit",
    "/usr/lib/tunesmith/bin/python",
    "/etc/passwd",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/proc/sys/kernel/core_pattern",
]


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError:
        return True
    return False


def network() -> object:
    """Connect to a server on the host's loopback, whose port is in a file, and list the network interfaces."""
    port = int(Path("port").read_text())
    return {
        "refused": refused(lambda: socket.create_connection(("127.0.0.1", port), timeout=2)),
        "interfaces": [name for _, name in socket.if_nameindex()],
    }


def write() -> object:
    Path("out/stray").write_text("planted beside the output")
    return {path: refused(lambda path=path: Path(path).open("a").close()) for path in FORBIDDEN}


def checkpoints() -> object:
    """As a training, write checkpoints of its own and of others, and leave a link and a pipe among its own."""
    folder = Path("build/checkpoints")
    places = ["container/checkpoints/own", "container/other/file", "container/file", "host/checkpoints/file", "file"]
    result = {place: refused(lambda place=place: (folder / place).write_text("mine")) for place in places}
    with (folder / "container" / "checkpoints" / ".lock").open("w") as lock:
        result["lock"] = refused(lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
        result["lock of another"] = refused(lambda: (folder / "container" / "other" / ".lock").open("w").close())
    (folder / "container" / "checkpoints" / "link").symlink_to(Path("params.yaml").absolute())
    os.mkfifo(folder / "container" / "checkpoints" / "pipe")
    return result


def secrets() -> object:
    return {path: Path(path).read_text() for path in (".env", ".dvc/config.local", ".git/config")}


def link() -> object:
    """Leave a link as the output, which the host would move into the project."""
    Path("out/link.json").symlink_to("/etc/passwd")
    sys.exit(0)


def allocate() -> object:
    blocks = []
    while True:
        blocks.append(b"x" * 2**24)


def fork() -> object:
    while True:
        if os.fork() == 0:
            time.sleep(60)


def privileges() -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"],
        "user": [os.getuid(), os.getgid(), os.getgroups()],
        "setuid": os.getuid() != 0 and refused(lambda: os.setuid(0)),
        "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == -1,
        "unshare": libc.unshare(0x10000000) == -1,  # CLONE_NEWUSER
        "ptrace of process 1": libc.ptrace(16, 1, None, None) == -1,  # PTRACE_ATTACH
        "memory of process 1": refused(lambda: Path("/proc/1/mem").open("rb").close()),
    }


def cache() -> object:
    """Read and write the hub's cache where libraries look for it."""
    folder = Path(os.environ["HF_HUB_CACHE"])
    return [(folder / "model").read_text(), refused(lambda: (folder / "poison").touch())]


def fill() -> object:
    with Path("/tmp/big").open("wb") as file:
        while True:
            file.write(b"x" * 2**20)


def threads() -> object:
    import torch

    return {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")} | {
        "torch": torch.get_num_threads()
    }


def terminal() -> object:
    return {"terminal": sys.stdout.isatty(), "size": list(os.get_terminal_size(1)) if sys.stdout.isatty() else []}


def sleep() -> object:
    print("sleeping", flush=True)
    time.sleep(120)
    return {}


def ignore() -> object:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return sleep()


def leave() -> object:
    """Leave a process in a session of its own, which would outlive the stage."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(120)
    return {}


def say() -> object:
    print("out", flush=True)
    print("err", file=sys.stderr, flush=True)
    sys.exit(7)


if __name__ == "__main__":
    from tunesmith.core import console, files

    def main() -> str:
        result = globals()[sys.argv[1]]()
        files.write_text(Path("out") / f"{sys.argv[1]}.json", json.dumps(result))
        return "done"

    console.run(main)
