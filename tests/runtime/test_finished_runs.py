"""Outputs of an earlier run are restored where its inputs come again, under a real DVC; otherwise a stage runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import warm_python
import yaml

from tunesmith.core import layout
from tunesmith.runtime import finished_runs

ROOT = Path(__file__).parents[2]
PIPELINE = """
stages:
  make:
    foreach: [a]
    do:
      cmd: exec python -m tunesmith.runtime make ${item}
      deps: [input]
      outs:
        - models/${item}: {persist: true}
        - report.txt: {persist: true}
"""
STAGE = """
import sys
from pathlib import Path
from tunesmith.core import files

text = Path("input").read_text()
with files.new_folder(Path("models") / sys.argv[1]) as folder:
    (folder / "part").mkdir()
    (folder / "part" / "weights").write_text(text)
    (folder / "config").write_text(f"of {text}")
Path("report.txt").write_text(f"about {text}")
with Path("runs").open("a") as runs:
    runs.write(f"{text}\\n")
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repro(self, *options: str, text: str | None = None, **environment: str) -> str:
        """Run the pipeline, on another input where ``text`` is given; what it printed."""
        if text is not None:
            (self.folder / "input").write_text(text)
        return self.run("dvc", "repro", *options, **environment)

    def run(self, *command: str, **environment: str) -> str:
        path = f"{warm_python.folder()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"} | environment
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def runs(self) -> list[str]:
        """The inputs that the stage ran on, in order."""
        return (self.folder / "runs").read_text().split()

    @property
    def outputs(self) -> dict[str, str]:
        files = [self.folder / "report.txt", *(self.folder / "models" / "a").rglob("*")]
        return {str(path.relative_to(self.folder)): path.read_text() for path in files if path.is_file()}

    @property
    def locked(self) -> object:
        return yaml.safe_load((self.folder / "dvc.lock").read_text())


def made_of(text: str) -> dict[str, str]:
    return {"report.txt": f"about {text}", "models/a/part/weights": text, "models/a/config": f"of {text}"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose stage ran on one input, then on another. Not to be written to."""
    project = Project(tmp_path_factory.mktemp("finished") / "project")
    (project.folder / "stages").mkdir(parents=True)
    (project.folder / "stages" / "make.py").write_text(STAGE)
    (project.folder / "dvc.yaml").write_text(PIPELINE)
    (project.folder / "params.yaml").write_text("sft: {}\n")
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    for text in ("one", "two"):
        project.repro(text=text)
    assert project.runs == ["one", "two"]
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)))


def test_going_back_to_earlier_inputs_restores_their_outputs_without_a_run(project: Project) -> None:
    second = project.locked
    assert "restored from the same inputs' earlier run: models/a, report.txt" in project.repro(text="one")
    assert project.outputs == made_of("one")
    project.repro(text="two")
    assert (project.outputs, project.locked) == (made_of("two"), second)
    assert project.runs == ["one", "two"]


def test_a_lost_output_is_restored(project: Project) -> None:
    shutil.rmtree(project.folder / "models" / "a")
    project.repro()
    assert project.outputs == made_of("two")
    assert project.runs == ["one", "two"]


def test_a_stage_that_is_forced_runs(project: Project) -> None:
    project.repro("--force")
    assert project.runs == ["one", "two", "two"]


def test_new_inputs_run(project: Project) -> None:
    project.repro(text="three")
    assert project.runs == ["one", "two", "three"]
    assert project.outputs == made_of("three")


def test_another_command_runs(project: Project) -> None:
    (project.folder / "dvc.yaml").write_text(PIPELINE.replace("${item}\n      deps", "${item} more\n      deps"))
    project.repro(text="one")
    assert project.runs == ["one", "two", "one"]


@pytest.mark.parametrize("lost", ["one", "of one", "about one"])
def test_a_stage_whose_outputs_are_not_whole_in_the_cache_runs(project: Project, lost: str) -> None:
    (file,) = (
        path for path in (project.folder / ".dvc" / "cache").rglob("*") if path.is_file() and path.read_text() == lost
    )
    file.unlink()
    project.repro(text="one")
    assert project.runs == ["one", "two", "one"]
    assert project.outputs == made_of("one")


def test_what_must_run_again_runs(project: Project) -> None:
    project.repro(text="one", **{layout.RERUN_VARIABLE: "1"})
    assert project.runs == ["one", "two", "one"]


def test_nothing_is_restored_for_a_stage_that_dvc_does_not_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    (project.folder / "input").write_text("one")
    assert not finished_runs.restore(project.folder)
    assert project.outputs == made_of("two")
