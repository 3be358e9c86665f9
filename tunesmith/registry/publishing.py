"""Publish the journals, metrics and samples on disk to the tracking server.

    python -m tunesmith.registry.publishing TRAINER [MODEL KEY] < JOURNAL

follows a journal while the process with the id TRAINER lives. A journal of another model or key is refused; the reason
is all that the command prints on standard output.

Publishing is idempotent: keys and times come from disk, so publishing again, after an outage or an interruption, adds
only what is missing. Two that publish a journal at once would each add it, so a publisher holds a lock on its file.
"""

import fcntl
import hashlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import BinaryIO

from tunesmith.core import journal
from tunesmith.core.errors import EngineError, RegistryError
from tunesmith.core.journal import Event
from tunesmith.core.params import load
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.documents import ModelMetrics
from tunesmith.registry.journal_reader import JournalReader
from tunesmith.registry.runs import Experiment, MetricPoint
from tunesmith.registry.tracker import Names

INTERVAL = 1.0
"""Seconds between two reads of a followed journal."""
LAST_ATTEMPT = 30
"""Seconds that a follower may still take once its training is gone; then it ends, whatever it waits for."""
MAX_PENDING = 10_000
"""Limit on the events that wait for a server; at the limit the journal is not read further."""


def publish_training(experiment: Experiment, events: list[Event]) -> str:
    """Publish a journal, complete or still growing, and return the id of its run."""
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run = experiment.run(start["key"], start["model"], start["time"], {"method": start["method"]})
    entry = start.get("merged", start["model"])  # left out of the names, so that runs of several entries compare
    params = {
        "model": start["model"],
        "method": start["method"],
        "device": start["device"],
        **_flatten({section: entries.get(entry, entries) for section, entries in start["params"].items()}),
    }
    summary = [point for name, value in end.items() for point in _points(f"training/{name}", value, end["time"])]
    experiment.log(run, points=[*step_points(events), *summary], params=params)
    return run


def step_points(events: list[Event]) -> list[MetricPoint]:
    """Return every value that the steps of a journal logged, except those that were not finite."""
    return [
        MetricPoint(name, float(value), event["time"], event["step"])
        for event in events
        if event["event"] == "step"
        for name, value in event.items()
        if name not in ("event", "time", "step") and isinstance(value, int | float)  # null: not finite
    ]


def publish_evaluation(experiment: Experiment, run: str, metrics: ModelMetrics, samples: list[Sample]) -> None:
    """Publish an evaluation: each suite's metrics under the suite's name, the cost apart, samples as a table."""
    points = [
        point for name, value in metrics.items() for point in _points(f"evaluation/{name}", value, metrics["time"])
    ]
    for suite, measured in metrics["suites"].items():
        of_suite = [_points(f"{suite}/{name}", value, metrics["time"]) for name, value in measured.items()]
        points += itertools.chain.from_iterable(of_suite)
        digest, prompts = measured["prompts_digest"], measured["prompts"]
        experiment.log_dataset(run, measured["dataset"], digest, f"{measured['dataset']}/test.jsonl", "test", prompts)
    digests = {f"prompts.{suite}": measured["prompts_digest"] for suite, measured in metrics["suites"].items()}
    experiment.log(run, points=points, tags=digests)
    table: dict[str, Sequence[object]] = {
        "suite": [sample["suite"] for sample in samples],
        "id": [sample["row"]["id"] for sample in samples],
        "prompt": [sample["row"]["prompt"][-1]["content"] for sample in samples],
        "right answer": [sample["row"]["reference"] for sample in samples],
        "answer": [sample["completion"] for sample in samples],
        "score": [None if sample["status"] == "not_gradable" else sample["score"] for sample in samples],
        "status": [sample["status"] for sample in samples],
        "reason": [sample["reason"] for sample in samples],
    }
    experiment.log_table(run, table, "samples.json")


def evaluation_key(metrics: ModelMetrics) -> str:
    """Return the run key of a model that was evaluated but never trained: the base."""
    digests = "".join(suite["prompts_digest"] for suite in metrics["suites"].values())
    prompts = hashlib.sha256(digests.encode()).hexdigest()
    return f"{metrics['model']}-{metrics['model_digest'][:16]}-{prompts[:16]}"


def _flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested params by dotted names."""
    values: dict[str, object] = {}
    for name, value in params.items():
        values |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def _points(name: str, value: object, time: int) -> list[MetricPoint]:
    if isinstance(value, bool) or not isinstance(value, int | float) or name.endswith("/time"):
        return []
    return [MetricPoint(name, float(value), time, 0)]


def follow(reader: JournalReader, settings: Names, trainer: int) -> None:
    """Publish a journal until its `end`, until the parent process ``trainer`` is gone, or until SIGTERM.

    A server that does not answer is tried again after the next read; each attempt publishes all events that are not
    known to have arrived, so none is lost. Raises RegistryError if the last attempt failed, and EngineError as
    `JournalReader.read` does. Nothing is published of a journal whose start is refused.
    """
    stopped = False

    def stop(signal_number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    pending, run, experiment = list[Event](), "", None
    try:
        while True:
            abandoned = stopped or os.getppid() != trainer  # before the last read, which then misses nothing
            if len(pending) < MAX_PENDING:
                pending += reader.read()
            try:
                if pending:
                    experiment = experiment or Experiment(settings.experiment)
                    run = publish_training(experiment, [reader.start, *pending])
                    pending.clear()
                if reader.ended or (abandoned and reader.caught_up):
                    if experiment is not None:
                        experiment.finish(run, "FINISHED" if reader.ended else "KILLED", reader.time)
                    return
            except RegistryError:
                experiment = None
                if reader.ended or abandoned:
                    raise
            if reader.caught_up or pending:
                time.sleep(INTERVAL)
    except EngineError:
        if experiment is not None:
            with suppress(RegistryError):
                experiment.finish(run, "FAILED", reader.time)
        raise


@contextmanager
def only_publisher(path: Path, patience: float = LAST_ATTEMPT + 5) -> Iterator[None]:
    """Wait for a follower of the journal at ``path`` to end, for ``patience`` seconds at most; keep others out then."""
    deadline = time.monotonic() + patience
    with path.open("rb") as file:
        while not _lock(file) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield


def _lock(file: BinaryIO) -> bool:
    """Whether no other process publishes this journal; then this one does, until it closes ``file``."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without such locks, or one where a file that is only read gets none, such as NFS
        return True
    return True


@contextmanager
def _ended_soon_after(trainer: int) -> Iterator[None]:
    """Have SIGALRM end this process LAST_ATTEMPT seconds after its parent ``trainer`` is gone, even in a request."""

    def look(signal_number: int, frame: object) -> None:
        if os.getppid() != trainer:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, LAST_ATTEMPT)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(trainer: int, *whose: str) -> None:
    """Follow the journal on standard input, unless another process publishes it. whose: its model and key."""
    os.nice(10)  # below the training
    with _ended_soon_after(trainer), redirect_stdout(sys.stderr):
        if _lock(sys.stdin.buffer):
            follow(JournalReader(sys.stdin.buffer, *whose), load(Names, "registry"), trainer)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), *sys.argv[2:])
    except EngineError as error:
        print(error, flush=True)
        sys.exit(1)
    except RegistryError as error:
        sys.exit(f"error: {error}")
