"""Run the parts one by one until time is up, and write every result as it comes.

Each process is started while the one before measures, so that its imports cost no time. A part that fails, crashes or
takes too long loses its own result alone.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Part

STARTING = 240.0
"""Seconds that imports may take, on a slow disk."""
PATIENCE, SHORTEST = 3.0, 60.0
"""A part is stopped after so many times what it is expected to take, and not before so many seconds."""
COMMAND = (sys.executable, "-m", "benchmarks.gpu", "work")

Result = dict[str, Any]


class Worker:
    """A process that runs parts (`worker`). ready: its first answer, once it came."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.process = ""
        self.ready: Result | None = None
        with log.open("ab") as errors:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.answers: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.answers.put(line)
        self.answers.put(None)

    def answer(self, seconds: float) -> Result:
        """The next answer. A process that ended, or gave none in time, has failed, and is stopped."""
        try:
            line = self.answers.get(timeout=max(seconds, 0.1))
        except queue.Empty:
            self.stop()
            return {"failed": f"stopped after {seconds:.0f} s"}
        if line is None:
            status = self.popen.wait()
            return {"failed": f"the process ended with status {status}"}
        found: Result = json.loads(line)
        return found

    def start(self, seconds: float) -> Result:
        """The first answer, once the libraries are imported."""
        if self.ready is None:
            self.ready = self.answer(seconds)
        return self.ready

    def ask(self, question: Result, seconds: float) -> Result:
        """The answer to a question. A process that failed is not asked again."""
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(json.dumps(question) + "\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            return {"failed": f"the process ended with status {self.popen.wait()}"}
        found = self.answer(seconds)
        if "failed" in found:
            self.stop()
        return found

    def stop(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self.reader.join()
        for stream in (self.popen.stdin, self.popen.stdout):
            with suppress(BrokenPipeError):  # of what was not flushed
                stream and stream.close()

    @property
    def lives(self) -> bool:
        return self.popen.poll() is None


class Runner:
    """The parts of one run. tiny: with settings in place of those where the numbers do not matter."""

    def __init__(
        self,
        write: Callable[[Result], None],
        log: Path,
        *,
        minutes: float,
        tiny: bool = False,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """log: the file for what the processes print."""
        self.write, self.log, self.tiny, self.command = write, log, tiny, command
        self.about: Result = {"tiny": tiny, "minutes": minutes}
        self.deadline = time.monotonic() + 60 * minutes
        self.workers: list[Worker] = []
        self.described = False

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def run(self, parts: Iterable[Part]) -> None:
        """Run the parts that time allows."""
        try:
            self._new()
            for part in parts:
                self.write({"part": part.name} | self._measure(part))
        finally:
            for worker in self.workers:
                worker.stop()

    def _measure(self, part: Part) -> Result:
        expected = 1.0 if self.tiny else part.seconds
        if self.left < expected:
            return {"skipped": f"expected to take {expected:.0f} s, of which {max(self.left, 0):.0f} were left"}
        began = time.monotonic()
        worker = self._worker(part)
        ready = worker.start(min(STARTING, self.left))
        if "failed" in ready:
            last = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-1:]
            return {"failed": f"could not import: {'; '.join([ready['failed'], *last])}"}
        if not self.described:
            self.write({"run": worker.ask({"describe": True}, self.left) | self.about, "missing": ready["missing"]})
            self.described = True
        if absent := [name for name in part.needs if name in ready["missing"]]:
            return {"skipped": f"not installed here: {', '.join(absent)}"}
        waited = time.monotonic() - began
        if self.left < expected:
            return {"skipped": f"expected to take {expected:.0f} s, of which {max(self.left, 0):.0f} were left"}
        limit = self.left if self.tiny else min(self.left, max(PATIENCE * part.seconds, SHORTEST))
        found = worker.ask({"part": part.name, "tiny": self.tiny}, limit)
        return {"seconds": time.monotonic() - began - waited, "waited": waited} | found

    def _worker(self, part: Part) -> Worker:
        """The process for a part: its own, or the one before where it shares that; the next is started meanwhile."""
        worker = self.workers[0]
        if worker.process not in ("", part.process) or not worker.lives:
            self.workers.pop(0).stop()
            worker = self.workers[0] if self.workers else self._new()
        worker.process = part.process
        if len(self.workers) < 2:
            self._new()
        return worker

    def _new(self) -> Worker:
        self.workers.append(worker := Worker(self.command, self.log))
        return worker


def appender(path: Path) -> Callable[[Result], None]:
    """A function that appends a result to a file of JSON lines, and returns when it is on the disk."""

    def append(result: Result) -> None:
        with path.open("a") as file:
            file.write(json.dumps(result) + "\n")
            file.flush()
            os.fsync(file.fileno())

    return append
