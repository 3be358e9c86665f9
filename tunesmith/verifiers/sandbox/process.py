"""Start processes in the sandbox, and exchange messages with them within a deadline and a size limit.

Each is one process with one thread (see `seccomp`), whose only output is its messages; killing it, or the bubblewrap
that dies with it, leaves nothing behind.
"""

import functools
import inspect
import marshal
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import CodeType
from typing import Literal

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.sandbox import bubblewrap, child, interpreter, landlock, seccomp, wire

Tier = Literal["bubblewrap", "landlock"]
Role = Literal["candidate", "tester"]


@dataclass(frozen=True)
class Limits:
    """The limits of a sandboxed process. Fixed for every one: a single process, a single thread, no file written."""

    seconds: float = 5.0
    """Wall-clock time for a verdict, in seconds, from the moment that all of its processes are ready."""
    memory: int = 512 << 20
    """Address space, in bytes."""
    files: int = 64
    """The number of files open at once."""
    reply: int = 1 << 20
    """Longest message of a candidate, in bytes; a tester's may be TESTER_REPLIES times as long."""


LIMITS = Limits()
TESTER_REPLIES = 16
START_TIMEOUT = 20.0
"""Timeout for a sandbox to start, in seconds, for the busiest machine. It takes 0.02."""
KILL_TIMEOUT = 5.0
"""Timeout for a killed process to be gone, in seconds."""
BOOT = """
import marshal, sys
modules, confinement, *settings = marshal.loads(sys.stdin.buffer.read(int(sys.argv[1])))
for name, code in modules:
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
if confinement:
    sys.modules["tunesmith.verifiers.sandbox.landlock"].confine(*confinement)
sys.modules["tunesmith.verifiers.sandbox.child"].main(*settings)
"""


class ProcessError(Exception):
    """The process exited, took too long, or sent something other than a message, as the text says."""


class DeadlineError(ProcessError):
    """The process took too long."""


class Process:
    """A sandboxed process. A message is a list (see `child`); a received one is parsed, never built (see `wire`)."""

    def __init__(self, popen: "subprocess.Popen[bytes]", longest_reply: int) -> None:
        self.popen, self.longest_reply = popen, longest_reply
        assert popen.stdin is not None
        assert popen.stdout is not None
        self.requests, self.replies = popen.stdin.fileno(), popen.stdout.fileno()
        os.set_blocking(self.requests, False)

    def send(self, *trees: object, deadline: float) -> None:
        """Send a message of `wire` trees. Raises WireError, ProcessError."""
        data = wire.dump(list(trees))
        self.write(len(data).to_bytes(child.SIZE, "big") + data, deadline)

    def write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            _wait(self.requests, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self.requests, rest) :]
            except BrokenPipeError:
                raise ProcessError("exited early") from None
            except BlockingIOError:
                continue

    def receive(self, *, deadline: float) -> list[object]:
        """The next message, as a parsed tree. Raises ProcessError."""
        size = int.from_bytes(self._read(child.SIZE, deadline), "big")
        if size > self.longest_reply:
            raise ProcessError(f"answered with {size} bytes, over {self.longest_reply}")
        try:
            message = wire.parse(self._read(size, deadline))
        except wire.WireError as error:
            raise ProcessError(f"answered with {error}") from None
        if not isinstance(message, list) or not message:
            raise ProcessError("answered with something other than a message")
        return message

    def _read(self, count: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while count:
            _wait(self.replies, select.POLLIN, deadline)
            part = os.read(self.replies, count)
            if not part:
                raise ProcessError("exited early")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Kill the process, and wait until every process that could write to the pipe is gone."""
        self.popen.kill()
        self.popen.wait()
        deadline = time.monotonic() + KILL_TIMEOUT
        with suppress(ProcessError):
            while True:
                self._read(1 << 16, deadline)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def open_processes(tier: Tier, *roles: Role, limits: Limits = LIMITS) -> Iterator[list[Process]]:
    """Start a process for each role; they are gone after the block, or with the thread that started them.

    Raises SandboxError where one does not start.
    """
    processes: list[Process] = []
    try:
        for role in roles:
            processes.append(_start(tier, role, limits))
        for process in processes:
            _await_ready(tier, process)
        yield processes
    finally:
        for process in processes:
            process.close()


def _start(tier: Tier, role: Role, limits: Limits) -> Process:
    null = os.open(os.devnull, os.O_RDWR)
    descriptors = [null]
    try:
        boot = marshal.dumps((_modules(tier), _confinement(tier), role, null, _limits_inside(limits)))
        command = [*interpreter.command(), "-c", BOOT, str(len(boot))]
        if tier == "bubblewrap":
            descriptors.append(bubblewrap.open_filter())
            command = bubblewrap.command(descriptors[-1]) + command
        popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            env=interpreter.VARIABLES,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _start_error(tier, str(error)) from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    process = Process(popen, limits.reply * (TESTER_REPLIES if role == "tester" else 1))
    with suppress(ProcessError):  # `_await_ready` reports it
        process.write(boot, time.monotonic() + START_TIMEOUT)
    return process


def _confinement(tier: Tier) -> tuple[list[str], list[str], bytes, int] | None:
    """The arguments of `landlock.confine` inside; None for bubblewrap, which confines from outside."""
    if tier == "bubblewrap":
        return None
    paths, hidden = ([str(path) for path in group] for group in (interpreter.readable(), interpreter.hidden()))
    return paths, hidden, seccomp.program(execve=False), os.getpid()


def _limits_inside(limits: Limits) -> tuple[int, int, int]:
    """The limits that a process sets itself: memory, CPU seconds (the wall clock always ends first), and open files."""
    return limits.memory, int(limits.seconds) + 2, limits.files


def _await_ready(tier: Tier, process: Process) -> None:
    """Wait for the first message of a process. Raises SandboxError with the last line of its errors."""
    try:
        process.receive(deadline=time.monotonic() + START_TIMEOUT)
    except ProcessError as error:
        process.popen.kill()
        assert process.popen.stderr is not None
        lines = process.popen.stderr.read().decode(errors="replace").strip().splitlines()
        raise _start_error(tier, lines[-1] if lines else f"it {error}") from None


def _start_error(tier: Tier, reason: str) -> SandboxError:
    return SandboxError(
        f"the {tier} sandbox does not start: {reason}",
        fix="check that memory and processes are available, then run it again",
    )


@functools.cache
def _modules(tier: Tier) -> list[tuple[str, CodeType]]:
    """The modules that run inside, compiled, since the interpreter inside is the same."""
    modules = [wire, child, *([landlock] if tier == "landlock" else [])]
    return [(module.__name__, compile(inspect.getsource(module), module.__name__, "exec")) for module in modules]


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    seconds = deadline - time.monotonic()
    if seconds <= 0 or not poll.poll(seconds * 1000):
        raise DeadlineError("took too long")
