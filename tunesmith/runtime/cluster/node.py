"""Run one process of a stage on a node: lay out a workspace, start the stage, watch it, and bring back what it makes.

The stage is `python -m stages.<name>` in a folder that has its code, its params and its inputs, as at home; it knows
nothing of Ray. This module does not either: it reports by a function that leaves events at home's desk.
"""

import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tunesmith.core import fingerprint, journal, layout
from tunesmith.core.dvc_store import Store, plain_tree
from tunesmith.core.errors import TunesmithError
from tunesmith.runtime.cluster import node_cache
from tunesmith.runtime.cluster.checkpoint_relay import CheckpointRelay
from tunesmith.runtime.cluster.job import Attempt, Done, Event, Fetched, Job, Lines, Output, Saved
from tunesmith.runtime.cluster.node_cache import NodeCache

POLL_SECONDS = 0.5
"""Seconds between two reports."""
SETTLE_SECONDS = 15.0
"""Seconds that a failed rank waits before it reports its error, where there are others: one of them may have been
killed, which fails all of them, and then Ray ends this process and starts the group again.
"""
INTERRUPTED = 128 + signal.SIGINT
"""The exit status of a stage that was interrupted."""
LAST_WORDS = 4000
"""Bytes of a rank's output that are kept where it is not shown."""
GROUP = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of a process group, which the stage does not inherit from the worker that starts it."""
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables that let a process into the cluster. A stage that does not spread its own work needs none."""
TIED = Path(__file__).with_name("tied.py")
PARCEL = fingerprint.PACKAGE.parent
"""The folder that Ray unpacked the parcel into, from which this module was imported."""


CLUSTER_VARIABLE = "TUNESMITH_RAY"
"""The variable with the cluster's address, for a stage that spreads its own work over the cluster."""
PARCEL_VARIABLE, WORKERS_VARIABLE = "TUNESMITH_RAY_PARCEL", "TUNESMITH_RAY_WORKERS"
"""Variables with Ray's address of the parcel, and the number of workers, for that stage."""
SPREADING = "tunesmith.runtime.cluster.spread_rows"
"""The module that runs such a stage."""


class StageKilledError(Exception):
    """A signal ended the stage, such as the kernel's for lack of memory: Ray starts it again."""


@dataclass(frozen=True)
class Rank:
    """The place of this process in its group. variables: those that tell the stage, as torchrun sets them."""

    number: int
    of: int
    variables: Mapping[str, str]


def run(
    job: Job, attempt: Attempt, saved: Saved, rank: Rank, tell: Callable[[list[Event]], bool], node: str
) -> Done | None:
    """Run a rank of a stage to its end, and return what it did; ranks other than the first return None where all went
    well.

    node: the ID of this node, since several may share a disk. tell: leaves events, and returns whether to interrupt.
    Raises StageKilledError where a signal ended the stage.
    """
    try:
        place = node_cache.own(node_cache.folder())
        store, cache = Store(job.store), NodeCache(place)
        with node_cache.workspace(place, f"{attempt.run}-{node[:12]}") as workspace:
            fetched = prepare(job, saved, store, cache, workspace)
            if rank.number == 0:
                tell([attempt])
            tell([Fetched(fetched)])
            process = Process(job, attempt, saved, rank, workspace, tell, store)
            status, last_words = process.follow()
            if status < 0:
                raise StageKilledError(f"{job.target} was ended by {signal.Signals(-status).name}")
            if status not in (0, INTERRUPTED) and rank.of > 1:
                time.sleep(SETTLE_SECONDS)
            if status and process.relay and not process.relay.kept():
                tell([Saved(saved.part)])
            if rank.number:
                words = "" if status == INTERRUPTED else last_words
                return Done(status, {}, 0, rank.number, words) if status else None
            outs = plain_tree(workspace, map(Path, job.outs))
            made = {name: digest for name, digest in outs.items() if job.inputs.get(name) != digest}
            sent = store.put({digest: workspace / name for name, digest in made.items()})
            return Done(status, outs, sent)
    except TunesmithError as error:
        return Done(1, {}, 0, rank.number, f"error: {error}\n")


def prepare(job: Job, saved: Saved, store: Store, cache: NodeCache, workspace: Path) -> int:
    """Fill a workspace, unless another rank of this node did; return the bytes of inputs taken from the store."""
    with node_cache.only_one(workspace.with_suffix(".preparing")):
        if (workspace / ".ready").exists():
            return 0
        fetched = cache.fetch(store, job.inputs)
        own = {name for name in job.inputs if any(Path(name).is_relative_to(out) for out in job.outs)}
        cache.lay_out({name: digest for name, digest in job.inputs.items() if name not in own}, workspace)
        cache.copy_out({name: digest for name, digest in job.inputs.items() if name in own}, workspace)
        for name in job.code:
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PARCEL / name, workspace / name)
        for out in job.outs:
            (workspace / out).parent.mkdir(parents=True, exist_ok=True)
        if saved.files:
            CheckpointRelay.lay_out(saved, job, workspace)
        (workspace / ".ready").touch()
    workspace.with_suffix(".preparing").unlink(missing_ok=True)
    return fetched


class Process:
    """The process of a rank of a stage, and the threads that report what it does."""

    def __init__(
        self,
        job: Job,
        attempt: Attempt,
        saved: Saved,
        rank: Rank,
        workspace: Path,
        tell: Callable[[list[Event]], bool],
        store: Store,
    ) -> None:
        self.job, self.attempt, self.rank, self.workspace, self.tell = job, attempt, rank, workspace, tell
        self.relay = CheckpointRelay(job, saved, store, workspace) if job.model and rank.number == 0 else None
        self.journal = workspace / layout.MODELS / f".{job.model}.partial" / journal.NAME
        self._output: list[Output] = []
        self._lock = threading.Lock()
        self._read, self._interrupted = 0, 0.0

    def follow(self) -> tuple[int, str]:
        """Start the stage and report until it ends; return its exit status, negative for a signal, and the end of its
        output.
        """
        child, readers = self._start()
        try:
            while child.poll() is None:
                self._report(child)
                time.sleep(POLL_SECONDS)
            for reader in readers:
                reader.join(timeout=POLL_SECONDS)
            last_words = b"".join(part.data for part in self._output)[-LAST_WORDS:]
            self._report(child)
            if self._interrupted and child.returncode < 0:
                return INTERRUPTED, ""
            return child.returncode, last_words.decode(errors="replace")
        finally:
            child.kill()
            child.wait()
            if self.relay:
                self.relay.close()

    def _start(self) -> "tuple[subprocess.Popen[bytes], list[threading.Thread]]":
        command = [self.job.module, *self.job.arguments]
        if CLUSTER_VARIABLE in self.rank.variables:
            command = [SPREADING, *command]
        reads, writes, ends = [], [], []
        if self.job.terminal:
            ours, theirs = pty.openpty()
            termios.tcsetwinsize(theirs, self.job.terminal)
            reads, writes, ends = [(1, ours)], [theirs, theirs], [theirs]
        else:
            for stream in (1, 2):
                ours, theirs = os.pipe()
                reads.append((stream, ours))
                writes.append(theirs)
                ends.append(theirs)
        child = subprocess.Popen(
            [sys.executable, str(TIED), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=writes[0],
            stderr=writes[1],
            cwd=self.workspace,
            env=self._environment(),
            start_new_session=True,
        )
        for descriptor in ends:
            os.close(descriptor)
        readers = [
            threading.Thread(target=self._read_output, args=[stream, os.fdopen(ours, "rb", buffering=0)], daemon=True)
            for stream, ours in reads
        ]
        for reader in readers:
            reader.start()
        return child, readers

    def _environment(self) -> dict[str, str]:
        threads = str(self.job.cpus)
        own = {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.workspace),
            layout.RUN_VARIABLE: self.attempt.run,
        }
        if not self.job.gpus:  # Ray hides none of a node's from a worker that has reserved none
            own["CUDA_VISIBLE_DEVICES"] = ""
        spreads = CLUSTER_VARIABLE in self.rank.variables
        others = {*GROUP, *(() if spreads else TOKENS)}
        inherited = {name: value for name, value in os.environ.items() if name not in others}
        if not inherited.get(layout.IMAGE_DIGEST_VARIABLE):
            inherited.pop(layout.IMAGE_DIGEST_VARIABLE, None)  # empty, as compose files set what is not there
        return {**inherited, **own, **self.job.variables, **self.rank.variables}

    def _read_output(self, stream: int, file: BinaryIO) -> None:
        with suppress(OSError), file:  # a terminal ends with an error
            while data := file.read(65536):
                with self._lock:
                    self._output.append(Output(stream, data))

    def _report(self, child: "subprocess.Popen[bytes]") -> None:
        """Tell home what happened since the last report; interrupt the stage where home wants that."""
        events: list[Event] = []
        with self._lock:
            if self.rank.number == 0:
                events += self._output
                self._output = []
            elif len(self._output) > 64:
                self._output = [Output(1, b"".join(part.data for part in self._output)[-LAST_WORDS:])]
        if self.relay:
            events += self._journal_lines()
            events += self.relay.new()
        if self.tell(events) and not self._interrupted:
            self._interrupted = time.monotonic()
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGINT)
        if self._interrupted and time.monotonic() - self._interrupted > self.job.grace:
            child.kill()

    def _journal_lines(self) -> list[Event]:
        """What the training added to its journal; a training that fails removes it, and one that ends moves it."""
        for path in (self.journal, self.workspace / layout.MODELS / str(self.job.model) / journal.NAME):
            with suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
                self._read += len(data)
                return [Lines(self.attempt.run, data)] if data else []
        return []
