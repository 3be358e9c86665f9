"""A process in the sandbox, and messages to and from it that a deadline and a size bound.

It is one process with one thread (see `seccomp`), whose output goes nowhere but into its messages; killing it, or the
bubblewrap that dies with it, leaves nothing behind.
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
    """seconds: of the wall clock, from when all processes of a verdict stand ready. memory: bytes of address space.

    files: open at once. reply: bytes of a candidate's message; a tester's may be TESTS_LONGER times as long. Fixed for
    every sandbox: one process, one thread, no file written.
    """

    seconds: float = 5.0
    memory: int = 512 << 20
    files: int = 64
    reply: int = 1 << 20


LIMITS = Limits()
TESTS_LONGER = 16
START = 20.0
"""Seconds that a sandbox may take to start, on the busiest machine. It takes 0.02."""
END = 5.0
"""Seconds that a killed process may take to be gone."""
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


class BrokenOffError(Exception):
    """The process ended, dawdled, or said what is no message. Its text says which, of "it"."""


class TooLateError(BrokenOffError):
    pass


class Process:
    """One message is a list, see `child`. What it says is parsed, never built: see `wire`."""

    def __init__(self, running: "subprocess.Popen[bytes]", longest: int) -> None:
        self.running, self.longest = running, longest
        assert running.stdin is not None
        assert running.stdout is not None
        self.requests, self.replies = running.stdin.fileno(), running.stdout.fileno()
        os.set_blocking(self.requests, False)

    def send(self, *trees: object, deadline: float) -> None:
        """Send a message of `wire` trees. Raises WireError, BrokenOffError."""
        data = wire.dump(list(trees))
        self.write(len(data).to_bytes(child.SIZE, "big") + data, deadline)

    def write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            _wait(self.requests, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self.requests, rest) :]
            except BrokenPipeError:
                raise BrokenOffError("ended before its time") from None
            except BlockingIOError:
                continue

    def receive(self, *, deadline: float) -> list[object]:
        """The next message, as a parsed tree. Raises BrokenOffError."""
        size = int.from_bytes(self._read(child.SIZE, deadline), "big")
        if size > self.longest:
            raise BrokenOffError(f"answered with {size} bytes, over {self.longest}")
        try:
            message = wire.parse(self._read(size, deadline))
        except wire.WireError as error:
            raise BrokenOffError(f"answered with {error}") from None
        if not isinstance(message, list) or not message:
            raise BrokenOffError("answered with no message")
        return message

    def _read(self, count: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while count:
            _wait(self.replies, select.POLLIN, deadline)
            part = os.read(self.replies, count)
            if not part:
                raise BrokenOffError("ended before its time")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Kill it, and wait until every process that could write to the pipe is gone."""
        self.running.kill()
        self.running.wait()
        deadline = time.monotonic() + END
        with suppress(BrokenOffError):
            while True:
                self._read(1 << 16, deadline)
        for stream in (self.running.stdin, self.running.stdout, self.running.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def started(tier: Tier, *roles: Role, limits: Limits = LIMITS) -> Iterator[list[Process]]:
    """Processes that stand ready, one a role, and are gone after the block, or with the thread that started them.

    Raises SandboxError where one does not start.
    """
    processes: list[Process] = []
    try:
        for role in roles:
            processes.append(_start(tier, role, limits))
        for process in processes:
            _greet(tier, process)
        yield processes
    finally:
        for process in processes:
            process.close()


def _start(tier: Tier, role: Role, limits: Limits) -> Process:
    null = os.open(os.devnull, os.O_RDWR)
    descriptors = [null]
    try:
        boot = marshal.dumps((_modules(tier), _confinement(tier), role, null, _inside(limits)))
        command = [*interpreter.command(), "-c", BOOT, str(len(boot))]
        if tier == "bubblewrap":
            descriptors.append(bubblewrap.open_filter())
            command = bubblewrap.command(descriptors[-1]) + command
        running = subprocess.Popen(
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
        raise _failed(tier, str(error)) from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    process = Process(running, limits.reply * (TESTS_LONGER if role == "tester" else 1))
    with suppress(BrokenOffError):  # the greeting will say so
        process.write(boot, time.monotonic() + START)
    return process


def _confinement(tier: Tier) -> tuple[list[str], bytes, int] | None:
    """What `landlock` is told inside; bubblewrap confines from outside."""
    if tier == "bubblewrap":
        return None
    return [str(path) for path in interpreter.readable()], seccomp.program(execve=False), os.getpid()


def _inside(limits: Limits) -> tuple[int, int, int]:
    """Memory, seconds of the processor, which the wall clock always comes before, and files."""
    return limits.memory, int(limits.seconds) + 2, limits.files


def _greet(tier: Tier, process: Process) -> None:
    try:
        process.receive(deadline=time.monotonic() + START)
    except BrokenOffError as error:
        process.running.kill()
        assert process.running.stderr is not None
        lines = process.running.stderr.read().decode(errors="replace").strip().splitlines()
        raise _failed(tier, lines[-1] if lines else f"it {error}") from None


def _failed(tier: Tier, reason: str) -> SandboxError:
    return SandboxError(
        f"the {tier} sandbox does not start: {reason}",
        fix="see whether memory and processes are left, then run it again",
    )


@functools.cache
def _modules(tier: Tier) -> list[tuple[str, CodeType]]:
    """The modules that run inside, compiled: the interpreter inside is this one."""
    modules = [wire, child, *([landlock] if tier == "landlock" else [])]
    return [(module.__name__, compile(inspect.getsource(module), module.__name__, "exec")) for module in modules]


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TooLateError("took too long")
