"""A training on the host is published beside it: by a process that outlives it shortly, and never holds it up."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow.entities import ViewType

from tunesmith.core import journal, layout
from tunesmith.registry.runs import Experiment
from tunesmith.runtime import journal_follower, run, settings

ROOT = Path(__file__).parents[2]
RUN = str(uuid.UUID(int=7))
STAGE = """
import os, sys, time
from pathlib import Path
from tunesmith.core import files
from tunesmith.core.journal import Journal

time.sleep(float(os.environ.get("BEGINS_AFTER", 0)))
if os.environ.get("FAILS"):
    sys.exit(3)
with files.new_folder(Path("models") / sys.argv[1]) as folder, Journal(folder / "training.jsonl") as log:
    log.write("start", key="its own", model=sys.argv[1], method="SFT", device="cpu", params={})
    log.write("step", step=1, loss=0.5)
    while os.environ.get("WAITS") and not Path("seen").exists():
        time.sleep(0.1)
    log.write("end", steps=1, seconds=1.0)
print(os.getpid())
"""


@pytest.fixture
def training(project: Path) -> Path:
    """A project with a stage train_toy that writes a journal in no time."""
    (project / "stages").mkdir()
    (project / "models").mkdir()
    (project / "stages" / "train_toy.py").write_text(STAGE)
    return project


def start(project: Path, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tunesmith.runtime", "train_toy", "x"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)


def followers(project: Path) -> list[psutil.Process]:
    """The processes that wait for a journal of this project, or publish one."""
    found = []
    for process in psutil.process_iter():
        try:
            names = {"tunesmith.runtime.journal_follower", "tunesmith.registry.publishing"}
            if names & set(process.cmdline()) and process.cwd() == str(project):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return found


def wait_until_none(project: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while followers(project):
        assert time.monotonic() < deadline, "a follower is still there"
        time.sleep(0.2)


def wait_for_run(experiment: Experiment) -> Any:
    deadline = time.monotonic() + 120
    while not (runs := experiment.client.search_runs([experiment.id], "metrics.`training/loss` >= 0")):
        assert time.monotonic() < deadline, "nothing was published"
        time.sleep(0.2)
    (published,) = runs
    return published


def test_the_journal_of_this_run_is_published_while_it_grows_and_not_that_of_an_earlier_one(training: Path) -> None:
    left = training / "models" / ".x.partial"
    left.mkdir()
    with journal.Journal(left / journal.NAME) as log:
        log.write("start", key="earlier", model="x", method="SFT", device="cpu", params={})
        log.write("step", step=1, loss=9.0)
    experiment = Experiment("arithmetic")
    with start(training, BEGINS_AFTER="2", WAITS="1") as stage:
        published = wait_for_run(experiment)
        assert published.info.status == "RUNNING"
        (training / "seen").touch()
        assert stage.communicate(timeout=90)[0].strip().isdecimal()
    wait_until_none(training, 90)
    published = wait_for_run(experiment)
    assert published.info.status == "FINISHED"
    assert published.data.metrics["training/loss"] == 0.5


def statuses(experiment: Experiment) -> list[str]:
    """The status of each run, in the order in which they were created."""
    runs = experiment.client.search_runs([experiment.id], order_by=["attributes.start_time"])
    return [run.info.status for run in runs]


def attempt(project: Path, inputs: str) -> "subprocess.Popen[str]":
    """Start the training as DVC does, on these inputs."""
    (project / "input").write_text(inputs)
    return start(project, DVC_STAGE="train_toy", WAITS="1")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_tracker_shows_the_last_attempt_at_a_training_and_an_earlier_one_only_on_other_inputs(
    training: Path,
) -> None:
    command = "exec python -m tunesmith.runtime train_toy x"
    (training / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"train_toy": {"cmd": command, "deps": ["input"], "outs": ["models/x"]}}})
    )
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    experiment = Experiment("arithmetic")
    with attempt(training, "one") as first:
        eventually(lambda: statuses(experiment) == ["RUNNING"])
        for process in (*followers(training), psutil.Process(first.pid)):  # as when power is cut; the stage follows
            process.kill()
    wait_until_none(training, 30)
    assert statuses(experiment) == ["RUNNING"]
    with attempt(training, "one") as second:
        eventually(lambda: len(experiment.client.search_runs([experiment.id], run_view_type=ViewType.ALL)) == 2)
        eventually(lambda: statuses(experiment) == ["RUNNING"])
        psutil.Process(second.pid).children()[0].kill()
    eventually(lambda: statuses(experiment) == ["KILLED"])
    with attempt(training, "two") as third:
        eventually(lambda: statuses(experiment) == ["KILLED", "RUNNING"])
        (training / "seen").touch()
        assert third.wait(timeout=90) == 0
    eventually(lambda: statuses(experiment) == ["KILLED", "FINISHED"])
    wait_until_none(training, 90)
    assert not list(training.glob(".dvc/tmp/tunesmith/attempts/*/*"))


@pytest.mark.parametrize("begins_after", ["0", "3"])
def test_a_follower_ends_with_a_training_that_dies_before_its_journal(training: Path, begins_after: str) -> None:
    with start(training, FAILS="1", BEGINS_AFTER=begins_after) as stage:
        assert stage.wait(timeout=90) == 3
    wait_until_none(training, 60)
    assert not Experiment("arithmetic").client.search_runs([Experiment("arithmetic").id])


def test_a_silent_server_delays_no_training(training: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with start(training, MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_TIMEOUT="300") as stage:
            assert stage.wait(timeout=60) == 0
        for process in followers(training):
            process.kill()


@pytest.mark.parametrize(
    ("stage", "environment", "starts"),
    [("train_sft", {}, True), ("evaluate", {}, False), ("train_sft", {layout.RERUN_VARIABLE: "1"}, False)],
)
def test_trainings_start_a_follower_of_their_run_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, stage: str, environment: dict[str, str], starts: bool
) -> None:
    started: list[tuple[Path, str]] = []
    became: list[Any] = []
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(journal_follower, "start", lambda folder, run_id, locks: started.append((folder, run_id)))
    monkeypatch.setattr(os, "execve", lambda *command: became.append(command))
    run.become(stage, ["x"], RUN, settings.Runtime(checkpoint_minutes=1, processes=1), None)
    ((_, command, given),) = became
    assert command[1:] == ["-m", f"stages.{stage}", "x"]
    assert (given[layout.RUN_VARIABLE], given[layout.CHECKPOINT_VARIABLE]) == (RUN, "60.0")
    assert started == ([(Path("models/x"), RUN)] if starts else [])


def test_a_follower_waits_for_the_first_line_of_its_own_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".x.partial" / journal.NAME
    path.parent.mkdir()
    key = journal.key(RUN, "x")
    own = json.dumps({"event": "start", "key": key})
    contents = iter(["", "not JSON\n", "[]\n", '{"key": "earlier"}\n', own, f"{own}\n"])
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        path.write_text(next(contents))

    def become(*command: Any) -> None:
        raise SystemExit(command)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(os, "dup2", lambda descriptor, target: None)
    monkeypatch.setattr(os, "execv", become)
    with pytest.raises(SystemExit) as end:
        journal_follower.main(tmp_path / "x", RUN, os.getppid())
    assert len(looks) == 6
    assert end.value.code[1][2:] == ["tunesmith.registry.publishing", str(os.getppid()), "x", key]


def test_a_follower_whose_training_is_gone_ends_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    journal_follower.main(tmp_path / "x", RUN, gone.pid)
