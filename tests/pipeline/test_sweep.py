"""`tunesmith sweep` on a tiny model: trials are DVC experiments, and nothing of a trial meets the test split."""

import copy
from pathlib import Path

import pytest
import warm_python
from pipeline_project import ONE, Project


@pytest.fixture(scope="module")
def project(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("sweep") / "project"
    folder.mkdir()
    params = copy.deepcopy(ONE)
    params["sft"]["tuned"]["epochs"] = 2
    return Project(folder, tiny_folder, params, warm_python.folder())


def test_trials_are_experiments_and_the_winner_alone_is_evaluated(project: Project) -> None:
    project.run("git", "commit", "-q", "--allow-empty", "-m", "before the sweep")
    over = ("sft.tuned", "--over", "learning_rate=0.05,0.03", "lora.rank=2,3", "--trials", "3", "--no-stopping")
    done = project.run("tunesmith", "sweep", *over)
    print(done.stdout, done.stderr)
    print(project.run("dvc", "exp", "show", "--only-changed", "--csv").stdout)
    print(project.run("git", "status", "--short").stdout)
    report = project.read("reports/sweeps/tuned-s1.json")
    print(report)
    print(project.run("tunesmith", "sweep", "sft.tuned", "--apply").stdout)
    print(project.run("dvc", "repro").stdout)
