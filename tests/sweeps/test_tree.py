"""Trials in a copy of a project whose training takes no time: real git and DVC, a journal as a training writes it."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core import files
from tunesmith.core.errors import BusyError
from tunesmith.sweeps import measures, tree
from tunesmith.sweeps.plan import Plan
from tunesmith.sweeps.tree import Run, Tree

TRAIN = '''
"""Writes models/mine with a journal; at a rate of 0.5 it goes on until it is stopped, at 0.9 it fails."""
import json, os, shutil, sys, time
from pathlib import Path
import yaml

rate = yaml.safe_load(Path("params.yaml").read_text())["sft"]["mine"]["learning_rate"]
partial = Path("models/.mine.partial")
partial.mkdir(parents=True, exist_ok=True)
lines = [{"event": "start"}] + [{"event": "validation", "step": step, "loss": rate + 1 / (1 + step)} for step in (0, 5)]
(partial / "training.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
if rate == 0.9:
    sys.exit("error: sft.mine: too fast\\n  fix: lower it")
if rate == 0.5:
    Path(os.environ["STOPPED"]).write_text(str(os.getpid()))
    try:
        time.sleep(600)
    finally:
        Path(os.environ["STOPPED"]).write_text("cleanly")
with (partial / "training.jsonl").open("a") as journal:
    journal.write(json.dumps({"event": "end", "steps": 5, "kept": 5}) + "\\n")
shutil.rmtree("models/mine", ignore_errors=True)
partial.rename("models/mine")
'''
DVC_YAML = """
stages:
  fingerprint:
    cmd: mkdir -p build/code && cat stages/train.py > build/code/train
    deps: [stages/train.py]
    outs: [{build/code: {persist: true}}]
  rows:
    cmd: mkdir -p data && echo rows > data/rows.jsonl
    outs: [{data/rows.jsonl: {persist: true}}]
  train_sft:
    foreach: {mine: {}}
    do:
      cmd: exec python -m stages.train
      deps: [build/code, data/rows.jsonl]
      params: [sft]
      outs: ["models/${key}": {persist: true}]
  evaluate:
    cmd: mkdir -p reports && echo '{"mine":1.0}' > reports/metrics.json
    deps: [models/mine]
    metrics: [{reports/metrics.json: {persist: true}}]
  later:
    cmd: mkdir -p models/later && touch models/later/made
    deps: [models/mine]
    outs: [{models/later: {persist: true}}, {reports/later.json: {persist: true}}]
params: [params.yaml]
metrics: [reports/trial]
"""
TARGET = "train_sft@mine"


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = {
            "stages/train.py": TRAIN,
            "dvc.yaml": DVC_YAML,
            "params.yaml": "sft: {mine: {learning_rate: 0.1}} # mine\n",
            ".gitignore": "/build\n/models\n/data\n/reports/*\n!/reports/trial\n/reports/trial/*.json\n__pycache__/\n",
            "reports/trial/README.md": "# nothing\n",
        }
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "start")
        self.run("dvc", "repro", "-q", "evaluate")  # `later` never ran

    def run(self, program: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc"] if program == "dvc" else [program]
        done = subprocess.run([*command, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def experiment(self, name: str) -> dict[str, str]:
        """The row of `dvc exp show`."""
        rows = csv.DictReader(io.StringIO(self.run("dvc", "exp", "show", "--csv")))
        return next(row for row in rows if row["Experiment"] == name)

    @contextmanager
    def tree(self) -> Iterator[Tree]:
        tree.prepare(self.folder, TARGET)
        commit, text = self.run("git", "rev-parse", "HEAD").strip(), (self.folder / "params.yaml").read_text()
        plan = Plan("sft", "mine", (), "loss", "rows", commit, {}, {}, text)
        with tree.laid(self.folder, "mine-s1-1", plan, self.folder / "build" / "sweeps") as laid:
            yield laid


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        identity = {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "t", "DVC_NO_ANALYTICS": "1"}
        identity |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "t@t", "GIT_CONFIG_COUNT": "2"}
        for name, value in identity.items():
            patch.setenv(name, value)
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        yield Project(tmp_path_factory.mktemp("trials"))


def ended(run: Run) -> int:
    for _ in range(600):
        if (status := run.status) is not None:
            run.end()
            return status
        time.sleep(0.1)
    raise AssertionError("it does not end")


def test_a_trial_is_an_experiment_that_can_be_applied_and_changes_nothing_of_the_project(project: Project) -> None:
    model = (project.folder / "models/mine/training.jsonl").read_text()
    with project.tree() as laid:
        run = laid.start("mine-s1-01", {"sft.mine.learning_rate": 0.2})
        assert ended(run) == 0
        assert measures.result(run.events(), "loss") == (5, pytest.approx(0.2 + 1 / 6))
        laid.save("mine-s1-01", {"validation": {"loss": 0.37, "trial": "finished"}}, whole=True)
        again = laid.start("mine-s1-02", {"sft.mine.learning_rate": 0.3})  # in the same copy
        assert ended(again) == 0
        laid.save("mine-s1-02", {"validation": {"loss": 0.47, "trial": "finished"}}, whole=True)
    assert (project.folder / "models/mine/training.jsonl").read_text() == model
    assert (project.folder / "params.yaml").read_text() == "sft: {mine: {learning_rate: 0.1}} # mine\n"
    assert not list((project.folder / ".dvc/tmp/exps/tunesmith").iterdir())
    shown = project.experiment("mine-s1-01")
    assert (shown["validation.loss"], shown["validation.trial"]) == ("0.37", "finished")
    assert shown["sft.mine.learning_rate"] == "0.2"
    assert shown["mine"] in ("", "!")  # of `evaluate`, which no trial runs
    project.run("dvc", "exp", "apply", "mine-s1-01")
    assert (project.folder / "params.yaml").read_text() == "sft: {mine: {learning_rate: 0.2}} # mine\n"
    assert json.loads((project.folder / "models/mine/training.jsonl").read_text().splitlines()[1])["loss"] == 1.2
    assert TARGET not in project.run("dvc", "status", TARGET)
    assert "Running stage 'evaluate'" in project.run("dvc", "repro", "evaluate")
    assert "later:" in project.run("dvc", "status", "later")
    assert json.loads((project.folder / "reports/metrics.json").read_text()) == {"mine": 1.0}
    project.run("git", "checkout", "params.yaml")
    project.run("dvc", "repro", "-q", "evaluate")


def test_a_trial_that_is_stopped_ends_cleanly_with_all_its_processes_and_has_no_model(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOPPED", str(tmp_path / "stopped"))
    with project.tree() as laid:
        run = laid.start("mine-s1-03", {"sft.mine.learning_rate": 0.5})
        for _ in range(600):
            if len(run.events()) == 3 and (tmp_path / "stopped").exists():
                break
            time.sleep(0.1)
        training = int((tmp_path / "stopped").read_text())
        run.end()
        assert run.status not in (None, 0)
        assert (tmp_path / "stopped").read_text() == "cleanly"
        with pytest.raises(ProcessLookupError):
            os.kill(training, 0)
        laid.save("mine-s1-03", {"validation": {"loss": 0.6, "trial": "stopped"}}, whole=False)
        after = laid.start("mine-s1-04", {"sft.mine.learning_rate": 0.2})
        assert [event for event in after.events() if event.get("loss") == 1.5] == []  # nothing of the one before
        ended(after)
    shown = project.experiment("mine-s1-03")
    assert (shown["validation.trial"], shown["sft.mine.learning_rate"]) == ("stopped", "0.5")
    project.run("dvc", "exp", "apply", "mine-s1-03")
    assert "train_sft@mine:" in project.run("dvc", "status", TARGET)  # its params have no model yet
    project.run("git", "checkout", "params.yaml")


def test_a_trial_that_fails_says_why(project: Project) -> None:
    with project.tree() as laid:
        run = laid.start("mine-s1-05", {"sft.mine.learning_rate": 0.9})
        assert ended(run) != 0
        assert laid.failure("mine-s1-05") == "sft.mine: too fast"
        output = "training:  1%|#| 3/99 [00:00<05:08, loss=5.6]error: step 3: not finite\n  fix: lower it\n"
        (laid.logs / "mine-s1-06.log").write_text(f"Running stage\n{output}ERROR: failed to reproduce 'mine'\n")
        assert laid.failure("mine-s1-06") == "step 3: not finite"


def test_params_that_change_during_a_sweep_change_no_trial(project: Project) -> None:
    with project.tree() as laid:
        (project.folder / "params.yaml").write_text("sft: {mine: {learning_rate: 0.9, epochs: 2}}\n")
        assert ended(laid.start("mine-s1-07", {"sft.mine.learning_rate": 0.2})) == 0
        assert (laid.tree.project / "params.yaml").read_text() == "sft: {mine: {learning_rate: 0.2}} # mine\n"
    project.run("git", "checkout", "params.yaml")


def test_what_a_killed_sweep_left_is_laid_anew(project: Project) -> None:
    left = project.folder / ".dvc/tmp/exps/tunesmith/mine-s1-1"
    project.run("git", "worktree", "add", "-q", "--detach", str(left))
    (left / "models").mkdir()
    with files.only_writer(left / "models" / "mine"), pytest.raises(BusyError, match="is writing it"), project.tree():
        pass
    shutil.rmtree(left)  # git knows it still
    with project.tree() as laid:
        values: dict[str, Any] = {"sft.mine.learning_rate": 0.2}
        assert ended(laid.start("mine-s1-06", values)) == 0
    assert not left.exists()
    assert len(project.run("git", "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    "place", ["models/.mine.partial", ".dvc/tmp/engines/train_sft@mine/models/.mine.partial", "models/mine"]
)
def test_a_trial_is_watched_wherever_it_trains(place: str, tmp_path: Path) -> None:
    """On this host, in a container or on a cluster, and when it is done."""
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "training.jsonl").write_text('{"event": "start"}\n{"event": "val')
    with (tmp_path / "log").open("wb") as output, subprocess.Popen([sys.executable, "-c", ""]) as process:
        trial = Run(process, output, tmp_path, "mine", "train_sft@mine")
        assert trial.events() == [{"event": "start"}]
