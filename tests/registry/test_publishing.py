"""Publishing to a real SQLite tracker, a new one for every test, and following a journal."""

import fcntl
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tunesmith.core import journal
from tunesmith.core.errors import RegistryError
from tunesmith.registry import journal_reader, publishing
from tunesmith.registry.runs import CHOSEN, Experiment
from tunesmith.registry.tracker import Names

DEAD = "http://127.0.0.1:9"


def write_journal(path: Path, steps: int, *, ended: bool) -> list[journal.Event]:
    with journal.Journal(path) as log:
        log.write("start", key="k1", model="sft-lora", method="SFT with LoRA", device="cpu", params={"sft": {"lr": 1}})
        for step in range(1, steps + 1):
            log.write("step", step=step, loss=1.0 / step)
        if ended:
            log.write("end", steps=steps, seconds=2.0)
    return journal.read(path)


def losses(experiment: Experiment, run: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in experiment.client.get_metric_history(run, "training/loss")]


def test_publishing_again_adds_only_what_is_missing(project: Path) -> None:
    events = write_journal(project / "j", 5, ended=True)
    experiment = Experiment("arithmetic")
    runs = {publishing.publish_training(experiment, part) for part in (events[:3], events, events)}
    assert len(runs) == 1
    assert losses(experiment, runs.pop()) == [(step, 1.0 / step) for step in range(1, 6)]


def test_a_run_has_its_params_its_source_and_its_usage(project: Path) -> None:
    experiment = Experiment("arithmetic")
    run = publishing.publish_training(experiment, write_journal(project / "j", 2, ended=True), "c0ffee")
    data = experiment.client.get_run(run).data
    params = {"model": "sft-lora", "method": "SFT with LoRA", "device": "cpu", "sft.lr": "1", "steps": "2"}
    assert data.params == params | {CHOSEN: run}
    assert data.metrics == {"training/loss": 0.5, "usage/seconds": 2.0}
    assert (
        data.tags.items() >= {"mlflow.source.name": "stages/train_sft.py", "mlflow.source.git.commit": "c0ffee"}.items()
    )


@pytest.mark.parametrize("about", [{"model": "a"}, {"model": "a-merged", "merged": "a"}])
def test_params_have_the_same_names_for_every_entry(project: Path, about: dict[str, str]) -> None:
    with journal.Journal(project / "j") as log:
        log.write("start", key="k", method="m", device="cpu", params={"sft": {"a": {"lora": {"rank": 2}}}}, **about)
    experiment = Experiment("arithmetic")
    run = publishing.publish_training(experiment, journal.read(project / "j"))
    assert experiment.client.get_run(run).data.params["sft.lora.rank"] == "2"


def test_the_validation_curve_is_published_beside_the_loss_and_the_kept_step_as_a_param(project: Path) -> None:
    with journal.Journal(project / "j") as log:
        log.write("start", key="k1", model="dpo", method="DPO", device="cpu", params={})
        log.write("validation", step=0, loss=0.5, accuracy=0.25)
        log.write("step", step=1, loss=0.75)
        log.write("resume", step=1, exact=True)
        log.write("validation", step=1, loss=0.25, accuracy=0.5)
        log.write("end", steps=2, kept=1, seconds=1.0)
    experiment = Experiment("arithmetic")
    run = publishing.publish_training(experiment, journal.read(project / "j"))
    history = experiment.client.get_metric_history(run, "validation/loss")
    assert [(point.step, point.value) for point in history] == [(0, 0.5), (1, 0.25)]
    data = experiment.client.get_run(run).data
    assert data.metrics.keys() == {"training/loss", "validation/loss", "validation/accuracy", "usage/seconds"}
    assert data.params.items() >= {"steps": "2", "kept": "1"}.items()


def sample(suite: str, number: int) -> dict[str, Any]:
    return {
        "suite": suite,
        "row": {"id": str(number), "prompt": [{"role": "user", "content": f"{number} + 1"}], "reference": "2"},
        "completion": "3",
        "tokens": None if suite == "pairs" else 1,
        "score": 0.0,
        "reason": "3 is not 2",
        "status": "scored",
    }


def test_an_evaluation_is_published_once_with_intervals_samples_and_traces(project: Path) -> None:
    experiment = Experiment("arithmetic")
    counts = {"no_answer": 0, "not_gradable": 0, "well_formed": None, "stopped": 1.0, "tokens": 20}
    suite = {"kind": "answers", "dataset": "demo", "prompts": 20, "prompts_digest": "p", "score": 0.5, **counts}
    metrics: dict[str, Any] = {"model": "m", "suites": {"sums": suite}, "seconds": 2.0, "time": 1000}
    interval = {"difference": 0.5, "low": 0.25, "high": 0.75}
    compared: Any = {"sums": {"models": {"m": {"low": 0.125, "high": 0.875}}, "against_baseline": {"m": interval}}}
    samples: list[Any] = [*(sample("sums", number) for number in range(20)), sample("pairs", 1)]
    run = experiment.run("base", "base", 0, {})
    for digest in ("first", "second", "second"):
        publishing.publish_evaluation(experiment, run, metrics | {"answers_digest": digest}, samples, compared)
    assert [m.value for m in experiment.client.get_metric_history(run, "scores/sums/score")] == [0.5]
    published = experiment.client.get_run(run)
    assert published.data.metrics == {
        "scores/sums/score": 0.5,
        "scores/sums/score_low": 0.125,
        "scores/sums/score_high": 0.875,
        "scores/sums/difference": 0.5,
        "scores/sums/difference_low": 0.25,
        "scores/sums/difference_high": 0.75,
        "suites/sums/no_answer": 0.0,
        "suites/sums/not_gradable": 0.0,
        "suites/sums/stopped": 1.0,
        "suites/sums/tokens": 20.0,
        "usage/evaluation_seconds": 2.0,
    }
    assert [dataset.dataset.name for dataset in published.inputs.dataset_inputs] == ["demo/test"]
    table = json.loads(Path(experiment.client.download_artifacts(run, "samples.json", str(project))).read_text())
    assert len(table["data"]) == 21
    assert table["data"][0] == ["sums", "0", "0 + 1", "2", "3", 0.0, "scored", "3 is not 2"]
    found = experiment.client.search_traces(locations=[experiment.id], run_id=run)
    assert {trace.info.client_request_id for trace in found} == {f"sums/{number}" for number in range(20)}
    assert {(a.name, a.value) for trace in found for a in trace.info.assessments} == {
        ("score", 0.0),
        ("right answer", "2"),
    }


def start_follower(path: Path, *, trainer: int | None = None, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunesmith.registry.publishing", str(trainer or os.getpid())]
    with path.open("rb") as file:
        return subprocess.Popen(command, stdin=file, stderr=subprocess.PIPE, env=os.environ | environment)


def test_a_follower_publishes_while_training_writes(project: Path) -> None:
    path = project / "j"
    write_journal(path, 2, ended=False)
    with start_follower(path) as follower:
        experiment = Experiment("arithmetic")
        run = wait_for_run(experiment)
        assert experiment.client.get_run(run).info.status == "RUNNING"
        with journal.Journal(path) as log:
            log.write("step", step=3, loss=0.25)
            log.write("end", steps=3, seconds=1.0)
        assert follower.wait(timeout=90) == 0
    assert [step for step, _ in losses(experiment, run)] == [1, 2, 3]
    assert experiment.client.get_run(run).info.status == "FINISHED"


def wait_for_run(experiment: Experiment) -> str:
    deadline = time.monotonic() + 90
    while not (runs := experiment.client.search_runs([experiment.id], "metrics.`training/loss` >= 0")):
        assert time.monotonic() < deadline, "the follower published nothing"
        time.sleep(0.2)
    return str(runs[0].info.run_id)


def test_a_follower_that_gets_sigterm_marks_the_run_killed(project: Path) -> None:
    write_journal(project / "j", 2, ended=False)
    with start_follower(project / "j") as follower:
        experiment = Experiment("arithmetic")
        run = wait_for_run(experiment)
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(timeout=90) == 0
    assert experiment.client.get_run(run).info.status == "KILLED"


def test_a_follower_whose_training_died_before_it_started_ends(project: Path) -> None:
    write_journal(project / "j", 2, ended=False)
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    with start_follower(project / "j", trainer=dead.pid) as follower:
        assert follower.wait(timeout=90) == 0
    experiment = Experiment("arithmetic")
    assert experiment.client.get_run(wait_for_run(experiment)).info.status == "KILLED"


def test_a_follower_of_an_unreachable_server_ends_with_the_reason(project: Path) -> None:
    write_journal(project / "j", 2, ended=True)
    with start_follower(project / "j", MLFLOW_TRACKING_URI=DEAD) as follower:
        _, stderr = follower.communicate(timeout=90)
    assert follower.returncode == 1
    assert f"the request to the tracking server at {DEAD} failed" in stderr.decode()


class Away:
    """A server that refuses the first connections and then accepts everything."""

    connections = 0

    def __init__(self, experiment: str) -> None:
        Away.connections += 1
        if Away.connections <= 10:
            raise RegistryError("away", fix="wait")

    def finish(self, run: str, status: str, ended: int) -> None:
        self.finished = status


def test_events_that_wait_for_a_server_are_bounded_and_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(tmp_path / "j", 1000, ended=True)
    batches: list[list[journal.Event]] = []
    monkeypatch.setattr(Away, "connections", 0)
    monkeypatch.setattr(publishing, "Experiment", Away)
    monkeypatch.setattr(
        publishing, "publish_training", lambda experiment, events, commit: batches.append(events) or "run"
    )
    monkeypatch.setattr(publishing, "INTERVAL", 0)
    monkeypatch.setattr(publishing, "MAX_PENDING", 50)
    monkeypatch.setattr(journal_reader, "CHUNK", 1000)  # some 16 lines
    before = signal.getsignal(signal.SIGTERM)
    with (tmp_path / "j").open("rb") as file:
        publishing.follow(journal_reader.JournalReader(file), Names(experiment="e", model="m"), os.getppid())
    signal.signal(signal.SIGTERM, before)
    assert Away.connections == 11
    assert [event["step"] for batch in batches for event in batch if event["event"] == "step"] == [*range(1, 1001)]
    assert max(map(len, batches)) < 80


def test_a_follower_outlives_its_training_by_seconds_only_whatever_it_waits_for(project: Path) -> None:
    """The server accepts connections and never answers; requests would wait longer than the limit."""
    write_journal(project / "j", 1, ended=True)
    code = "import sys; from tunesmith.registry import publishing; publishing.LAST_ATTEMPT = 1; publishing.main({})"
    training = (
        "import os, subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1].format(os.getpid())]"
    )
    training += ", stdin=open('j', 'rb')); time.sleep(float(sys.argv[2]))"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "300"}
        environment = os.environ | address | patience
        with subprocess.Popen([sys.executable, "-c", training, code, "300"], env=environment) as trainer:
            silent.settimeout(90)
            connection, _ = silent.accept()  # the follower is in its first request
            (follower,) = psutil.Process(trainer.pid).children()
            trainer.kill()
        with connection:
            psutil.wait_procs([follower], timeout=30)
            assert not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE


def test_a_journal_has_one_publisher_at_a_time(project: Path) -> None:
    path = project / "j"
    write_journal(path, 2, ended=True)
    with publishing.only_publisher(path):
        with start_follower(path) as follower:
            assert follower.wait(timeout=90) == 0
        assert not Experiment("arithmetic").client.search_runs([Experiment("arithmetic").id])
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        with publishing.only_publisher(path, patience=0.5):
            assert 0.5 <= time.monotonic() - began < 10


def test_a_loss_that_is_not_finite_is_left_out(project: Path) -> None:
    with journal.Journal(project / "j") as log:
        log.write("start", key="k", model="m", method="m", device="cpu", params={})
        log.write("step", step=1, loss=math.nan, grad_norm=1.0)
    names = [point.name for point in publishing.step_points(journal.read(project / "j"))]
    assert names == ["trl/grad_norm"]


def test_an_unreachable_server_is_an_error_that_says_models_are_safe(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    with pytest.raises(RegistryError, match="safe on disk"):
        Experiment("arithmetic")
