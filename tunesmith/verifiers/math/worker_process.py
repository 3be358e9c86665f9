"""A worker process that answers one question at a time, and is killed when it takes too long.

The worker is a module in an interpreter of its own, not a `multiprocessing` child: it imports nothing of the parent (a
stage's torch, its unguarded main), and works the same from any thread and after a fork. Both sides limit its time: the
parent by a wall clock, the worker by an alarm, so that no worker outlives a parent that is killed.
"""

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path

START_TIMEOUT = 60.0
"""Timeout, in seconds, for a worker to be ready: imports, on a busy machine."""
SLACK = 1.0
"""Seconds past the timeout after which a worker that was not killed ends itself."""


class Worker:
    """``module`` as a process. It writes a line when ready, then answers each line of JSON with a line of JSON.

    It may be used from threads, which wait for each other, and in forked children, which get a process of their own.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def ask(self, question: dict[str, object], seconds: float) -> dict[str, object] | None:
        """Ask the worker; None where it has no answer in ``seconds``, or dies of the question.

        Raises OSError where the worker does not start.
        """
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._start()
            line = json.dumps(question | {"seconds": seconds + SLACK}).encode() + b"\n"
            reply = _exchange(process, line, seconds)
            if reply is None:
                self._kill()
            return None if reply is None else dict(json.loads(reply))

    def stop(self) -> None:
        """End the process, if there is one; the next question starts another."""
        with self._lock:
            self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        self._kill()
        package = Path(__file__).parents[self._module.count(".")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=package,  # the parent's modules, whatever the working directory holds
            env=os.environ | {"PYTHONHASHSEED": "0"},  # SymPy orders terms by their hashes
        )
        if _exchange(self._process, b"", START_TIMEOUT) is None:
            self._kill()
            raise OSError(f"`python -m {self._module}` does not start; run it to see why")
        return self._process

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _close(self._process)
            self._process = None

    def _forget(self) -> None:
        """Forget the process in a forked child: it is the parent's, and another thread may have held the lock."""
        self._lock = threading.Lock()
        if self._process is not None:
            _close(self._process)
            self._process.returncode = 0  # only the parent can wait for it
            self._process = None


def _exchange(process: subprocess.Popen[bytes], line: bytes, seconds: float) -> bytes | None:
    """Send a line and wait for one; None where none comes in ``seconds``, or the process ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline, reply = time.monotonic() + seconds, b""
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not reply.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                return None
            reply += part
    return reply


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # closing flushes a line that a dead process did not read
                pipe.close()
