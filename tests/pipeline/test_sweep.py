"""`tunesmith sweep` on a tiny model: trials are DVC experiments, and nothing of a trial meets the test split."""

import copy
import csv
import io
from pathlib import Path

import pytest
import warm_python
from pipeline_project import ONE, Project, running

from tunesmith.core import manifest

OVER = ("sft.tuned", "--over", "learning_rate=0.05,0.03", "lora.rank=2,3")


@pytest.fixture(scope="module")
def project(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("sweep") / "project"
    folder.mkdir()
    params = copy.deepcopy(ONE)
    params["sft"]["tuned"]["epochs"] = 2
    return Project(folder, tiny_folder, params, warm_python.folder())


@pytest.mark.real  # a minute: every stage of a trial imports its libraries; tests/sweeps has the parts
def test_trials_are_experiments_and_the_winner_alone_is_evaluated(project: Project) -> None:
    done = project.run("tunesmith", "sweep", *OVER, "--trials", "3", "--parallel", "2", "--no-stopping")
    report = project.read("reports/sweeps/tuned-s1.json")
    assert [trial["state"] for trial in report["trials"]] == ["finished"] * 3
    assert report["trials"][0]["values"] == {"learning_rate": 0.05, "lora.rank": 2}
    assert report["chosen"] == min(report["trials"], key=lambda trial: trial["value"])["name"]
    assert f"{report['chosen']} has the lowest validation loss of 3 trials" in done.stdout
    rows = csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout))
    shown = {row["Experiment"]: row for row in rows}
    for trial in report["trials"]:
        row = shown[trial["name"]]
        assert float(row["validation.loss"]) == pytest.approx(trial["value"])
        assert float(row["sft.tuned.learning_rate"]) == trial["values"]["learning_rate"]
    assert not (project.folder / "reports/evaluation").exists()
    assert not (project.folder / "models/tuned").exists()
    opened = [line.split("\t") for line in project.audit.read_text().splitlines()]
    read = {path for stage, path in opened if stage == "train_sft@tuned"}
    assert "data/ready/demo/validation.jsonl" in read
    assert not [path for path in read if "test.jsonl" in path]
    assert not [stage for stage, _ in opened if stage.startswith(("evaluate", "compare", "register"))]

    chosen = next(trial for trial in report["trials"] if trial["name"] == report["chosen"])
    other = next(trial for trial in report["trials"] if trial is not chosen)
    project.run("dvc", "exp", "apply", other["name"])
    assert project.params["sft"]["tuned"]["learning_rate"] == other["values"]["learning_rate"]
    assert "train_sft@tuned" not in project.run("dvc", "status", "train_sft@tuned").stdout
    assert manifest.verify(project.folder / "models/tuned")

    project.run("git", "checkout", "params.yaml")
    project.run("tunesmith", "sweep", "sft.tuned", "--apply")
    assert project.params["sft"]["tuned"]["lora"]["rank"] == chosen["values"]["lora.rank"]
    done = project.run("dvc", "repro")
    assert "restored from the same inputs' earlier run: models/tuned" in done.stdout
    assert {"train_sft@tuned", "evaluate", "compare", "register"} <= running(done)
    assert project.read("reports/comparison.json")["sweeps"] == {
        "tuned": {"by": "loss", "trials": 3, "met_test": [report["chosen"]]}
    }
    assert "chosen of 3 trials" in project.run("tunesmith", "results").stdout
