"""Publish the journals, metrics and samples on disk to the tracking server.

    python -m tunesmith.registry.publishing TRAINER [MODEL KEY] < JOURNAL

follows a journal while the process with the id TRAINER lives. A journal of another model or key is refused; the reason
is all that the command prints on standard output.

Publishing is idempotent: keys and times come from disk, so publishing again, after an outage or an interruption, adds
only what is missing. Two that publish a journal at once would each add it, so a publisher holds a lock on its file.
"""

import fcntl
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import BinaryIO, cast

from tunesmith.core import journal, lineage
from tunesmith.core.errors import ContainerError, RegistryError
from tunesmith.core.journal import Event
from tunesmith.core.params import load
from tunesmith.core.ready_rows import Sample, content_text
from tunesmith.evaluation.documents import Details, ModelMetrics, SuiteComparison, SuiteMetrics
from tunesmith.registry import attempts, traces
from tunesmith.registry.journal_reader import JournalReader
from tunesmith.registry.runs import DIGEST_LENGTH, Experiment, MetricPoint
from tunesmith.registry.tracker import Names

INTERVAL = 1.0
"""Seconds between two reads of a followed journal."""
LAST_ATTEMPT = 30
"""Seconds that a follower may still take once its training is gone; then it ends, whatever it waits for."""
SIZES = ("steps", "kept", "trainable_parameters", "total_parameters")
"""The fields of a journal's end that are constants: params of the run, not metrics."""
DETAILS = ("epoch", "grad_norm", "learning_rate", "num_tokens", "step_time")
"""What trainers log at a step beside the quantities that a training is judged by."""
MAX_PENDING = 10_000
"""Limit on the events that wait for a server; at the limit the journal is not read further."""


def publish_training(experiment: Experiment, events: list[Event], commit: str | None = None) -> str:
    """Publish a journal, complete or still growing, and return its run's id. commit: that of the code, if known."""
    start, end = journal.first(events, "start"), journal.first(events, "end")
    run = experiment.run(start["key"], start["model"], start["time"], {"method": start["method"]})
    entry = start.get("merged", start["model"])  # left out of the names, so that runs of several entries compare
    params = {
        "model": start["model"],
        "method": start["method"],
        "device": start["device"],
        **_flatten({section: entries.get(entry, entries) for section, entries in start["params"].items()}),
        **{name: value for name, value in end.items() if name in SIZES},
    }
    usage = [
        point
        for name, value in end.items()
        if name not in SIZES
        for point in _points(f"usage/{name}", value, end["time"])
    ]
    stage = "merge" if "merged" in start else "_".join(["train", *start["params"]])
    experiment.log(run, points=[*step_points(events), *usage], params=params, tags=source_tags(stage, commit))
    return run


def source_tags(stage: str, commit: str | None) -> dict[str, str]:
    """Return the tags behind MLflow's columns Source and Version."""
    name = {"mlflow.source.name": f"stages/{stage}.py", "mlflow.source.type": "LOCAL"}
    return name | ({"mlflow.source.git.commit": commit} if commit else {})


def step_points(events: list[Event]) -> list[MetricPoint]:
    """Return every value that the steps and validations of a journal logged, except those that were not finite.

    MLflow draws metrics in the order of their names: what a training is judged by is under `training`, the rest of what
    TRL logs, some of it constant, under `trl`, behind it, then the measurements on the validation split.
    """
    return [
        MetricPoint(f"{_section(event['event'], name)}/{name}", value, event["time"], event["step"])
        for event in events
        if event["event"] == "step" or event["event"] == "validation"
        for name, value in event.items()
        if name not in ("event", "time", "step") and isinstance(value, int | float)  # null: not finite
    ]


def _section(kind: str, name: str) -> str:
    if kind == "validation":
        return kind
    return "trl" if "/" in name or name in DETAILS else "training"


def publish_evaluation(
    experiment: Experiment,
    run: str,
    metrics: ModelMetrics,
    samples: list[Sample],
    suites: Mapping[str, SuiteComparison],
    model: str | None = None,
) -> None:
    """Publish an evaluation: scores with their intervals, counts, samples as a table, and some of them as traces.

    suites: the comparison of every model on each suite. model: the id of the logged model, if the model is one.
    """
    name, time = metrics["model"], metrics["time"]
    experiment.log(run, points=_points("usage/evaluation_seconds", metrics["seconds"], time))
    for suite, measured in metrics["suites"].items():
        digest, task = measured["prompts_digest"], measured["kind"] == "lm_eval"
        dataset = measured["dataset"] if task else f"{measured['dataset']}/test"
        source = dataset if task else f"{dataset}.jsonl"
        experiment.log_dataset(run, dataset, digest, source, "test", measured["prompts"])
        values = _scores(measured, suites[suite], name)
        points = [
            MetricPoint(f"{section}/{suite}/{key}", float(value), time, 0, (dataset, digest[:DIGEST_LENGTH]))
            for section, part in values.items()
            for key, value in part.items()
            if value is not None
        ]
        experiment.log(run, points=points, model=model)
    table: dict[str, Sequence[object]] = {
        "suite": [sample["suite"] for sample in samples],
        "id": [sample["row"]["id"] for sample in samples],
        "prompt": [content_text(sample["row"]["prompt"][-1]) for sample in samples],
        "right answer": [sample["row"]["reference"] for sample in samples],
        "answer": [sample["completion"] for sample in samples],
        "score": [None if sample["status"] == "not_gradable" else sample["score"] for sample in samples],
        "status": [sample["status"] for sample in samples],
        "reason": [sample["reason"] for sample in samples],
    }
    experiment.log_table(run, table, "samples.json")
    traces.publish(experiment, run, samples, digest=metrics["answers_digest"], time=time, model=model)


def _scores(measured: SuiteMetrics, compared: SuiteComparison, name: str) -> dict[str, dict[str, float | None]]:
    """Return what a suite measured of a model, by section of MLflow's charts, which are drawn in this order."""
    score, difference = compared["models"][name], compared["against_baseline"].get(name)
    details = {key: float(cast("float", value)) for key, value in measured.items() if key in Details.__annotations__}
    scores = details | {"score": measured["score"], "score_low": score["low"], "score_high": score["high"]}
    if difference is not None:
        ends = {f"difference_{end}": difference[end] for end in ("low", "high")}
        scores |= {"difference": difference["difference"], **ends}
    counts = {key: measured[key] for key in ("no_answer", "not_gradable", "well_formed", "stopped", "tokens")}
    return {"scores": scores, "suites": counts}


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


def follow(reader: JournalReader, settings: Names, trainer: int, model: str = "", key: str | None = None) -> None:
    """Publish a journal until its `end`, until the parent process ``trainer`` is gone, or until SIGTERM.

    model, key: of the journal; once it is published, so is what became of the model's other attempts
    (`attempts.settle`). A server that does not answer is tried again after the next read; each time, all events are
    published that are not known to have arrived, so none is lost. Raises RegistryError if the last time failed, and
    ContainerError as `JournalReader.read` does. Nothing is published of a journal whose start is refused.
    """
    stopped, settled = False, not model

    def stop(signal_number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    pending, run, experiment, commit = list[Event](), "", None, lineage.code()["commit"]
    try:
        while True:
            abandoned = stopped or os.getppid() != trainer  # before the last read, which then misses nothing
            if len(pending) < MAX_PENDING:
                pending += reader.read()
            try:
                if pending:
                    experiment = experiment or Experiment(settings.experiment)
                    run = publish_training(experiment, [reader.start, *pending], commit)
                    pending.clear()
                    settled = settled or attempts.settle(experiment, model, key)
                if reader.ended or (abandoned and reader.caught_up):
                    if experiment is not None:
                        experiment.finish(run, "FINISHED" if reader.ended else "KILLED", reader.time)
                        if model:
                            attempts.settle(experiment, model, key, ended=reader.ended)
                    return
            except RegistryError:
                experiment = None
                if reader.ended or abandoned:
                    raise
            if reader.caught_up or pending:
                time.sleep(INTERVAL)
    except ContainerError:
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
            follow(JournalReader(sys.stdin.buffer, *whose), load(Names, "registry"), trainer, *whose)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), *sys.argv[2:])
    except ContainerError as error:
        print(error, flush=True)
        sys.exit(1)
    except RegistryError as error:
        sys.exit(f"error: {error}")
