"""A pool of worker processes, each of which answers one request at a time and is killed when it takes too long.

A worker is an interpreter of its own, not a `multiprocessing` child: it imports nothing of the parent (a stage's torch,
its unguarded main), and works the same from any thread and after a fork. It limits its own CPU time (see `child`), so
no worker outlives a parent that is killed; the parent limits wall-clock time, far above that.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tunesmith.core.cpus import usable_cpus
from tunesmith.verifiers.worker import child

SECONDS = 0.9
"""Limit of a request, in seconds of CPU time: on an idle machine, an answer has its verdict within a second."""
MOST = 8
"""Workers of a pool on a machine of many CPUs, each of which holds its imports: about 100 MB."""
WALL_SECONDS = 60.0
"""Timeout, in seconds of wall-clock time, for a worker to be ready or to reply: imports, on a busy machine."""


def size() -> int:
    """The number of workers of a pool: one a CPU, and at most `MOST`."""
    return min(usable_cpus(), MOST)


class Pool:
    """Processes that answer requests by the ``prepare(task)`` and ``reply(request)`` of ``module``, `size` at most.

    It may be used from threads, each of which gets a process, and in forked children, which get processes of their own.
    """

    def __init__(self, module: str, task: str) -> None:
        self._module, self._task = module, task
        self._places = threading.Semaphore(size())
        self._workers: set[subprocess.Popen[bytes]] = set()
        self._idle: list[subprocess.Popen[bytes]] = []
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def ask(self, request: dict[str, object], seconds: float = SECONDS) -> dict[str, object] | None:
        """Send a request; None where it has no reply within ``seconds`` of CPU time, or the worker dies of it.

        Raises OSError where no worker starts.
        """
        line = json.dumps(request | {"seconds": seconds}).encode() + b"\n"
        with self._places:
            worker = self._idle_worker() or self._start()
            reply = _exchange(worker, line)
            if reply is None:
                self._end(worker)
                return None
            self._idle.append(worker)
        value: dict[str, object] | None = json.loads(reply)
        return value

    def _idle_worker(self) -> "subprocess.Popen[bytes] | None":
        with contextlib.suppress(IndexError):  # rather than to ask whether there is one: another thread may take it
            worker = self._idle.pop()
            if worker.poll() is None:
                return worker
            self._end(worker)
        return None

    def stop(self) -> None:
        """End every process; the next request starts another."""
        self._idle.clear()
        for worker in list(self._workers):
            self._end(worker)

    def _start(self) -> "subprocess.Popen[bytes]":
        package = Path(__file__).parents[__name__.count(".")]
        worker = subprocess.Popen(
            [sys.executable, "-m", child.__name__, self._module, self._task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=package,  # the parent's modules, whatever the working directory holds
            env=os.environ | {"PYTHONHASHSEED": "0"},  # SymPy orders terms by their hashes
            start_new_session=True,  # Ctrl-C is for the parent; and a group to be killed as one
        )
        self._workers.add(worker)
        if _exchange(worker, b"") is None:
            self._end(worker)
            raise OSError(f"`python -m {child.__name__} {self._module} {self._task}` does not start; run it to see why")
        return worker

    def _end(self, worker: "subprocess.Popen[bytes]") -> None:
        self._workers.discard(worker)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        _close(worker)

    def _forget(self) -> None:
        """Forget the processes in a forked child: they are the parent's, and no other thread leaves its place there."""
        for worker in self._workers:
            _close(worker)
            worker.returncode = 0  # only the parent can wait for it
        self._places = threading.Semaphore(size())
        self._workers.clear()
        self._idle.clear()


def _exchange(worker: "subprocess.Popen[bytes]", line: bytes) -> bytes | None:
    """Send a line and wait for one; None where none comes in time, or the process ends."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    deadline, reply = time.monotonic() + WALL_SECONDS, b""
    try:
        worker.stdin.write(line)
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while not reply.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            part = os.read(worker.stdout.fileno(), 65536)
            if not part:
                return None
            reply += part
    return reply


def _close(worker: "subprocess.Popen[bytes]") -> None:
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # closing flushes a line that a dead process did not read
                pipe.close()
