"""Outages of the tracker before, during or after a training: is the training delayed, is anything lost or doubled?

    python -m benchmarks.tracker_outages [--repeats 5] [--epochs 200]

Every run is the stage `train_sft` on a tiny random model, started as by `dvc repro`, against a real `mlflow server`
on loopback (SQLite). In turn:

up        the tracker answers throughout: the baseline of the others
before    it is down when the training starts, and comes back in the middle
during    it goes down after a quarter of the steps, and comes back after half
after     it goes down at the last steps, and comes back when the training has ended

The tracker is, by turns, killed (connections are refused) and frozen (connections are accepted, nothing answers). When
the stage has ended and the tracker is back, the journal is published as registration does, and every metric of the
tracker is compared with the journal: each point must be there once, in one run. A stage never waits for the process
that publishes: its time after the last line of its journal is compared, beside its whole time, which a busy machine
stretches.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests import method_project, servers, tiny_model
from tunesmith.core import journal, manifest
from tunesmith.models.base import base_model
from tunesmith.models.base_sources import Folder
from tunesmith.registry import publishing
from tunesmith.registry.runs import Experiment

ROOT = Path(__file__).parent.parent
MODEL = "sft-lora"
OUTAGES = {"up": None, "before": (0.0, 0.5), "during": (0.25, 0.5), "after": (0.97, 2.0)}
"""The shares of the steps at which the tracker goes down and comes back; 2: when the training has ended."""


@dataclass
class Tracker:
    """An `mlflow server` that can go down and come back, on one port and one database."""

    folder: Path
    port: int = field(default_factory=servers.free_port)
    _running: ExitStack = field(default_factory=ExitStack)
    _service: servers.Service | None = None
    _frozen: bool = False

    @property
    def url(self) -> str:
        return f"http://{servers.HOST}:{self.port}"

    def start(self) -> None:
        """Start the server, or let a frozen one continue, and wait until it answers."""
        if self._frozen and self._service:
            os.killpg(self._service.process.pid, signal.SIGCONT)
            self._frozen = False
        elif self._service is None:
            self._service = self._running.enter_context(servers.mlflow_server(self.folder, port=self.port))

    def stop(self, frozen: bool) -> None:
        assert self._service
        if frozen:
            os.killpg(self._service.process.pid, signal.SIGSTOP)
            self._frozen = True
        else:
            self._service.kill()
            self._running.close()
            self._service = None

    def close(self) -> None:
        if self._service:
            self._service.kill()
        self._running.close()


@dataclass(frozen=True)
class Run:
    """The outcome of a training.

    seconds: duration of the stage; held: the part of it after its journal's last line. points: metric points in the
    journal; wrong: those that the tracker lacked or had more than once.
    """

    outage: str
    frozen: bool
    status: int
    seconds: float
    held: float
    points: int
    wrong: int
    load: float


def make_base(folder: Path) -> Path:
    tokenizer = tiny_model.make_tokenizer()
    tokenizer.save_pretrained(folder / "tiny")
    tiny_model.make_model(len(tokenizer)).save_pretrained(folder / "tiny")
    digest = manifest.folder_digest(folder / "tiny")
    source = Folder(kind="folder", path=folder / "tiny", sha256=digest, chat_template=None)
    base_model.fetch(source, folder / "base")
    return folder / "base"


def train(tracker: Tracker, project: Path, outage: str, frozen: bool, steps: int) -> Run:
    """Train with an outage, publish afterwards, and compare."""
    away = OUTAGES[outage]
    tracker.start()
    if away and away[0] == 0:
        tracker.stop(frozen)
        away = (3.0, away[1])
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracker.url, "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    with (project / "log").open("wb") as log:
        stage = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.runtime", "train_sft", MODEL],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=log,
        )
    while stage.poll() is None:
        share = steps_done(project) / steps
        if away and share >= away[0]:
            tracker.stop(frozen)
            away = (3.0, away[1])
        if away and share >= away[1]:
            tracker.start()
            away = None
        time.sleep(0.02)
    seconds, ended = time.monotonic() - began, time.time()
    tracker.start()
    points, wrong = (0, 1) if stage.returncode else compare(tracker, project)
    last = journal.read(project / "models" / MODEL / journal.NAME)[-1]
    held = ended - last["time"] / 1000
    return Run(outage, frozen, stage.returncode, seconds, held, points, wrong, os.getloadavg()[0])


def steps_done(project: Path) -> int:
    """The number of steps in the journal of the running training."""
    with contextlib.suppress(FileNotFoundError):  # not there yet, or just renamed into place
        content = (project / "models" / f".{MODEL}.partial" / journal.NAME).read_bytes()
        return content.count(b'"event":"step"')
    return 0


def compare(tracker: Tracker, project: Path) -> tuple[int, int]:
    """Publish as registration does, and return the points in the journal and those that are wrong in the tracker."""
    path = project / "models" / MODEL / journal.NAME
    events = journal.read(path)
    os.environ["MLFLOW_TRACKING_URI"] = tracker.url
    experiment = Experiment("e")
    with publishing.only_publisher(path):
        run = publishing.publish_training(experiment, events)
    experiment.finish(run, "FINISHED", journal.first(events, "end")["time"])
    expected = Counter((p.name, p.step, p.value, p.time) for p in publishing.step_points(events))
    names = {name for name, *_ in expected}
    published = Counter(
        (point.key, point.step, point.value, point.timestamp)
        for name in names
        for point in experiment.client.get_metric_history(run, name)
    )
    key = journal.first(events, "start")["key"]
    runs = experiment.client.search_runs([experiment.id], f"tags.`tunesmith.key` = '{key}'")
    wrong = (published - expected).total() + (expected - published).total()
    return expected.total(), wrong + abs(len(runs) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200, help="of two steps each")
    options = parser.parse_args()
    sft = {MODEL: method_project.PARAMS["sft"][MODEL] | {"epochs": options.epochs}}
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = method_project.make(folder / "project", make_base(folder), method_project.PARAMS | {"sft": sft})
        (project / "stages").symlink_to(ROOT / "stages")
        subprocess.run([sys.executable, "-m", "stages.fingerprint"], cwd=project, check=True)
        (folder / "tracker").mkdir()
        tracker = Tracker(folder / "tracker")
        try:
            for repeat in range(options.repeats):
                for outage in OUTAGES:
                    run = train(tracker, project, outage, repeat % 2 == 1, 2 * options.epochs)
                    runs.append(run)
                    print(line(run), flush=True)
        finally:
            tracker.close()
    print_table(runs)


def line(run: Run) -> str:
    how = "" if run.outage == "up" else "frozen" if run.frozen else "killed"
    return (
        f"{run.outage:7} {how:7} status {run.status}, {run.seconds:5.1f} s, {run.held:3.1f} of them after the "
        f"journal's end, {run.points} points, {run.wrong} wrong, load {run.load:.1f}"
    )


def print_table(runs: list[Run]) -> None:
    up = statistics.median(run.held for run in runs if run.outage == "up")
    whole = statistics.median(run.seconds for run in runs if run.outage == "up")
    print(f"\nup: {up:.1f} s after the journal's end, {whole:.1f} s in all; with the tracker down, longer by:")
    for outage in OUTAGES:
        if outage != "up":
            held = [run.held - up for run in runs if run.outage == outage]
            seconds = statistics.median(run.seconds - whole for run in runs if run.outage == outage)
            print(
                f"{outage:7} median {statistics.median(held):+.1f} s, most {max(held):+.1f} s ({seconds:+.1f} s in all)"
            )
    away = [run for run in runs if run.outage != "up"]
    ended = sum(run.status == 0 for run in away)
    exact = sum(run.wrong == 0 for run in away)
    print(f"{ended} of {len(away)} trainings ended; {exact} of {len(away)} have every metric exactly once")
    raise SystemExit(ended < len(away) or exact < len(away))


if __name__ == "__main__":
    main()
