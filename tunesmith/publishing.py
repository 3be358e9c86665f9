"""Publish what is on disk to the tracking server: journals, metrics, samples, lineage.

    python -m tunesmith.publishing JOURNAL TRAINER      follow a journal while the process of that number writes it

Everything is published under a key that is on disk and with the times that are on disk, so publishing again, after a
server was away or in the middle of it, adds what is missing and nothing else.
"""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tunesmith import journal
from tunesmith.errors import RegistryError
from tunesmith.journal import Event
from tunesmith.params import Section, load
from tunesmith.registry import Point, Registry
from tunesmith.samples import Sample

INTERVAL = 1.0
"""Seconds between two looks at a journal that is followed."""


class Names(Section):
    """The section `registry`: the experiment that runs go to, and the registered model that versions belong to."""

    experiment: str
    model: str


def publish_training(registry: Registry, events: list[Event]) -> str:
    """Publish a journal, whole or so far, and return the id of its run."""
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run = registry.run(start["key"], start["model"], start["time"], {"method": start["method"]})
    params = {"model": start["model"], "method": start["method"], "device": start["device"], **flat(start["params"])}
    summary = [point for name, value in end.items() for point in _points(f"training/{name}", value, end)]
    registry.log(run, points=[*steps(events), *summary], params=params)
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


def publish_evaluation(registry: Registry, run: str, metrics: dict[str, Any], samples: list[Sample]) -> None:
    """Publish an evaluation: every suite's metrics under its name, its cost apart, samples as a table."""
    points = [point for name, value in metrics.items() for point in _points(f"evaluation/{name}", value, metrics)]
    for suite, measured in metrics["suites"].items():
        points += [point for name, value in measured.items() for point in _points(f"{suite}/{name}", value, metrics)]
        digest, prompts = measured["prompts_digest"], measured["prompts"]
        registry.log_dataset(run, measured["dataset"], digest, f"{measured['dataset']}/test.jsonl", "test", prompts)
    digests = {f"prompts.{suite}": measured["prompts_digest"] for suite, measured in metrics["suites"].items()}
    registry.log(run, points=points, tags=digests)
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
    registry.log_table(run, table, "samples.json")


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


def follow(path: Path, settings: Names, trainer: int) -> None:
    """Publish a journal until its `end`, or until ``trainer``, our parent, is gone or says stop (SIGTERM).

    A server that does not answer is asked again at the next look; nothing is lost, since each attempt publishes all
    that is not yet known to have arrived. Raises RegistryError if the last attempt failed.
    """
    stopped = False

    def stop(signal_number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    with path.open("rb") as file:
        events, rest, published, run, registry = list[Event](), b"", 0, "", None
        while True:
            more, rest = journal.parse(rest + file.read())
            events += more
            ended = bool(journal.first(events, "end"))
            abandoned = stopped or os.getppid() != trainer
            try:
                if len(events) > published:
                    registry = registry or Registry(settings.experiment)
                    run = publish_training(registry, [events[0], *events[max(published, 1) :]])
                    published = len(events)
                if ended or abandoned:
                    if registry is not None:
                        registry.finish(run, "FINISHED" if ended else "KILLED", events[-1]["time"])
                    return
            except RegistryError:
                registry = None
                if ended or abandoned:
                    raise
            time.sleep(INTERVAL)


if __name__ == "__main__":
    os.nice(10)  # training comes first
    try:
        follow(Path(sys.argv[1]), load(Names, "registry"), int(sys.argv[2]))
    except RegistryError as error:
        sys.exit(f"error: {error}")
