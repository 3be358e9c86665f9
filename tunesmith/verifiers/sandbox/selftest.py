"""Does a tier hold on this machine? A few hostile programs say so before the first program is trusted to it."""

import secrets
import tempfile
import time

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.sandbox.process import BrokenOffError, Limits, Process, Tier, started

LIMITS = Limits(seconds=10.0, memory=256 << 20)
ENDLESS = 0.2
"""Seconds after which the endless program is killed."""
PROBES = """
import ctypes, decimal, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)

def succeeds(attempt):
    try:
        return attempt() not in (None, -1, False)
    except (OSError, RuntimeError, MemoryError):
        return False

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)  # else its end would stop the process once that is traced
    return True

def write():
    with open("/dev/shm/tunesmith-probe", "w"):
        return True

def thread():
    threading.Thread(target=int).start()
    return True

def probe(secret):
    attempts = {
        "reads /etc/passwd": lambda: open("/etc/passwd").read(),
        "lists /proc": lambda: os.listdir("/proc"),
        "reads its parent's environment": lambda: open(f"/proc/{os.getppid()}/environ").read(),
        "reads another's file": lambda: open(secret).read(),
        "inherits a variable": lambda: "PATH" in os.environ or "HOME" in os.environ,
        "writes a file": write,
        "changes a file's mode": lambda: os.chmod(decimal.__file__, 0o644) or True,
        "forks": fork,
        "starts a thread": thread,
        "opens a TCP socket": lambda: socket.socket(),
        "opens a UNIX socket": lambda: socket.socket(socket.AF_UNIX),
        "signals its parent": lambda: os.kill(os.getppid(), 0) or True,
        "traces": lambda: libc.ptrace(0, 0, None, None),
        "unshares": lambda: libc.unshare(0x10000000),
        "mounts": lambda: libc.mount(b"none", b"/", b"tmpfs", 0, None),
        "sets up io_uring": lambda: libc.syscall(425, 1, ctypes.create_string_buffer(256)),
        "takes more memory than it may": lambda: bytearray(1 << 30),
    }
    return [name for name, attempt in attempts.items() if succeeds(attempt)]
"""
ENDLESS_PROGRAM = "def probe(secret):\n    while True: pass"


def broken(tier: Tier) -> str | None:
    """Why generated code may not run in this tier here, or None. About 0.3 seconds."""
    try:
        with started(tier, "candidate", limits=LIMITS) as [process]:
            got_through = _called(process, PROBES, time.monotonic() + LIMITS.seconds)
            if got_through:
                return f"{tier}: a program inside {', '.join(map(str, got_through))}"
        with started(tier, "candidate", limits=LIMITS) as [process]:
            try:
                _called(process, ENDLESS_PROGRAM, time.monotonic() + ENDLESS)
            except BrokenOffError:
                return None
        return f"{tier}: an endless program ended"
    except SandboxError as error:
        return error.reason
    except BrokenOffError as error:
        return f"{tier}: the self-test {error}"


def _called(process: Process, program: str, deadline: float) -> list[object]:
    nonce = secrets.token_hex(8)
    process.send(nonce, "", [program], "probe", True, deadline=deadline)
    loaded = process.receive(deadline=deadline)
    with tempfile.NamedTemporaryFile() as secret:
        process.send(nonce, "call", [secret.name], {"dict": []}, deadline=deadline)
        returned = process.receive(deadline=deadline) if loaded == [nonce, "loaded"] else loaded
    if returned[:2] != [nonce, "returned"] or not isinstance(returned[2], list):
        raise BrokenOffError(f"says {returned[1:]}")
    return returned[2]
