"""Publish what is on disk to the tracking server: journals, metrics, samples, lineage.

    python -m tunesmith.registry.publishing TRAINER [MODEL KEY] < JOURNAL

follows a journal while the process of that number is there; one that is not of MODEL under KEY is refused, and why,
which is all that it says on standard output.

Everything is published under a key that is on disk and with the times that are on disk, so publishing again, after a
server was away or in the middle of it, adds what is missing and nothing else.
"""

import hashlib
import os
import signal
import sys
import time
from contextlib import redirect_stdout, suppress
from typing import Any

from tunesmith.core import journal
from tunesmith.core.errors import EngineError, RegistryError
from tunesmith.core.journal import Event
from tunesmith.core.params import load
from tunesmith.core.ready_rows import Sample
from tunesmith.registry.journal_reader import Tail
from tunesmith.registry.runs import Experiment, Point
from tunesmith.registry.tracker import Names

INTERVAL = 1.0
"""Seconds between two looks at a journal that is followed."""
WAITING = 10_000
"""Events that may wait for a server; beyond them the journal is not read on."""


def publish_training(experiment: Experiment, events: list[Event]) -> str:
    """Publish a journal, whole or so far, and return the id of its run."""
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run = experiment.run(start["key"], start["model"], start["time"], {"method": start["method"]})
    params = {"model": start["model"], "method": start["method"], "device": start["device"], **flat(start["params"])}
    summary = [point for name, value in end.items() for point in _points(f"training/{name}", value, end)]
    experiment.log(run, points=[*steps(events), *summary], params=params)
    return run


def steps(events: list[Event]) -> list[Point]:
    """The logged values of every step in a journal."""
    return [
        Point(name, float(value), event["time"], event["step"])
        for event in events
        if event["event"] == "step"
        for name, value in event.items()
        if name not in ("event", "time", "step") and value is not None  # null stands for what is not finite
    ]


def publish_evaluation(experiment: Experiment, run: str, metrics: dict[str, Any], samples: list[Sample]) -> None:
    """Publish an evaluation: every suite's metrics under its name, its cost apart, samples as a table."""
    points = [point for name, value in metrics.items() for point in _points(f"evaluation/{name}", value, metrics)]
    for suite, measured in metrics["suites"].items():
        points += [point for name, value in measured.items() for point in _points(f"{suite}/{name}", value, metrics)]
        digest, prompts = measured["prompts_digest"], measured["prompts"]
        experiment.log_dataset(run, measured["dataset"], digest, f"{measured['dataset']}/test.jsonl", "test", prompts)
    digests = {f"prompts.{suite}": measured["prompts_digest"] for suite, measured in metrics["suites"].items()}
    experiment.log(run, points=points, tags=digests)
    table = {
        "suite": [sample["suite"] for sample in samples],
        "id": [sample["id"] for sample in samples],
        "prompt": [sample["prompt"][-1]["content"] for sample in samples],
        "right answer": [sample["reference"] for sample in samples],
        "answer": [sample["completion"] for sample in samples],
        "score": [None if sample["status"] == "not_gradable" else sample["score"] for sample in samples],
        "status": [sample["status"] for sample in samples],
        "reason": [sample["reason"] for sample in samples],
    }
    experiment.log_table(run, table, "samples.json")


def evaluation_key(metrics: dict[str, Any]) -> str:
    """The key of the run of a model that was evaluated but never trained: the base."""
    asked = hashlib.sha256("".join(one["prompts_digest"] for one in metrics["suites"].values()).encode()).hexdigest()
    return f"{metrics['model']}-{metrics['model_digest'][:16]}-{asked[:16]}"


def flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested params by dotted names."""
    values: dict[str, Any] = {}
    for name, value in params.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def _points(name: str, value: Any, event: Event) -> list[Point]:
    if isinstance(value, bool) or not isinstance(value, int | float) or name.endswith("/time"):
        return []
    return [Point(name, float(value), event["time"], 0)]


def follow(tail: Tail, settings: Names, trainer: int) -> None:
    """Publish a journal until its `end`, or until ``trainer``, our parent, is gone or says stop (SIGTERM).

    A server that does not answer is asked again at the next look; nothing is lost, since each attempt publishes all
    that is not yet known to have arrived. Raises RegistryError if the last attempt failed, and EngineError as
    `Tail.more` does: of a journal whose start is refused, nothing is published.
    """
    stopped = False

    def stop(signal_number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    waiting, run, experiment = list[Event](), "", None
    try:
        while True:
            abandoned = stopped or os.getppid() != trainer  # asked before the last look, which then sees all
            if len(waiting) < WAITING:
                waiting += tail.more()
            try:
                if waiting:
                    experiment = experiment or Experiment(settings.experiment)
                    run = publish_training(experiment, [tail.start, *waiting])
                    waiting.clear()
                if tail.ended or (abandoned and tail.caught_up):
                    if experiment is not None:
                        experiment.finish(run, "FINISHED" if tail.ended else "KILLED", tail.time)
                    return
            except RegistryError:
                experiment = None
                if tail.ended or abandoned:
                    raise
            if tail.caught_up or waiting:
                time.sleep(INTERVAL)
    except EngineError:
        if experiment is not None:
            with suppress(RegistryError):
                experiment.finish(run, "FAILED", tail.time)
        raise


if __name__ == "__main__":
    os.nice(10)  # training comes first
    try:
        with redirect_stdout(sys.stderr):
            follow(Tail(sys.stdin.buffer, *sys.argv[2:]), load(Names, "registry"), int(sys.argv[1]))
    except EngineError as error:
        print(error, flush=True)
        sys.exit(1)
    except RegistryError as error:
        sys.exit(f"error: {error}")
