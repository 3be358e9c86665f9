"""The self-test of a tier: a few hostile programs must fail on this machine before it holds any other program."""

import secrets
import tempfile
import time

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.sandbox.process import Limits, Process, ProcessError, Tier, open_processes

LIMITS = Limits(seconds=10.0, memory=256 << 20)
ENDLESS_SECONDS = 0.2
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
    os.waitpid(child, 0)  # otherwise its end would stop the process once that is traced
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


def failure(tier: Tier) -> str | None:
    """The reason why generated code may not run in this tier here, or None. Takes about 0.3 seconds."""
    try:
        with open_processes(tier, "candidate", limits=LIMITS) as [process]:
            leaks = _probe(process, PROBES, time.monotonic() + LIMITS.seconds)
            if leaks:
                return f"{tier}: a program inside {', '.join(map(str, leaks))}"
        with open_processes(tier, "candidate", limits=LIMITS) as [process]:
            try:
                _probe(process, ENDLESS_PROGRAM, time.monotonic() + ENDLESS_SECONDS)
            except ProcessError:
                return None
        return f"{tier}: an endless program ended"
    except SandboxError as error:
        return error.reason
    except ProcessError as error:
        return f"{tier}: the self-test {error}"


def _probe(process: Process, program: str, deadline: float) -> list[object]:
    """Call ``probe`` of a program, which returns a list. Raises ProcessError."""
    nonce = secrets.token_hex(8)
    process.send(nonce, "", [program], "probe", True, deadline=deadline)
    reply = process.receive(deadline=deadline)
    with tempfile.NamedTemporaryFile() as secret:
        process.send(nonce, "call", [secret.name], {"dict": []}, deadline=deadline)
        if reply == [nonce, "loaded"]:
            reply = process.receive(deadline=deadline)
    if reply[:2] != [nonce, "returned"] or not isinstance(reply[2], list):
        raise ProcessError(f"answered with {reply[1:]}")
    return reply[2]
