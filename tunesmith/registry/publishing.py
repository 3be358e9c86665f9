"""Publish the journals, metrics and samples on disk to the tracking server.

    python -m tunesmith.registry.publishing TRAINER [MODEL KEY] < JOURNAL

follows a journal while the process with the id TRAINER lives. A journal of another model or key is refused; the reason
is all that the command prints on standard output.

Publishing is idempotent: keys and times come from disk, so publishing again, after an outage or an interruption, adds
only what is missing.
"""

import hashlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress

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
MAX_PENDING = 10_000
"""Limit on the events that wait for a server; at the limit the journal is not read further."""


def publish_training(experiment: Experiment, events: list[Event]) -> str:
    """Publish a journal, complete or still growing, and return the id of its run."""
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run = experiment.run(start["key"], start["model"], start["time"], {"method": start["method"]})
    params = {
        "model": start["model"],
        "method": start["method"],
        "device": start["device"],
        **_flatten(start["params"]),
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


if __name__ == "__main__":
    os.nice(10)  # below the training
    try:
        with redirect_stdout(sys.stderr):
            follow(JournalReader(sys.stdin.buffer, *sys.argv[2:]), load(Names, "registry"), int(sys.argv[1]))
    except EngineError as error:
        print(error, flush=True)
        sys.exit(1)
    except RegistryError as error:
        sys.exit(f"error: {error}")
