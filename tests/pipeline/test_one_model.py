"""A project of one model: what an edit of code or of params runs again, and what DVC's experiments do."""

import json
import time
from pathlib import Path

import pytest
import warm_python
from pipeline_project import ONE, SFT, Project, running

from tunesmith.core import manifest

EVERY_PACKAGE = [
    "tunesmith/core/params.py",
    "tunesmith/verifiers/number.py",
    "tunesmith/data/prepare.py",
    "tunesmith/models/chat.py",
    "tunesmith/training/objectives/sft.py",
    "tunesmith/evaluation/gate.py",
    "tunesmith/planning/memory.py",
    "tunesmith/reports/curves.py",
    "tunesmith/registry/versions.py",
    "tunesmith/serving/gateway/proxy.py",
    "tunesmith/runtime/run.py",
    "tunesmith/project/checks.py",
    "tunesmith/cli/main.py",
]


@pytest.fixture(scope="module")
def project(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("one") / "project"
    folder.mkdir()
    return Project(folder, tiny_folder, ONE, warm_python.folder())


def test_one_model_runs_only_what_it_needs(project: Project) -> None:
    first = {"fingerprint", "resolve_params", "generate_demo", "fetch_base", "prepare_data@demo"}
    assert project.repro() == first | {"baseline", "train_sft@tuned", "evaluate", "compare", "register"}
    assert list(project.read("reports/metrics.json")) == ["base", "tuned"]
    assert list(project.read("reports/comparison.json")["facts"]["trainings"]) == ["tuned"]
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "one model")


@pytest.mark.real  # half a minute of DVC, as those below; test_fingerprint.py checks the same for all modules at once
def test_a_docstring_in_every_package_in_turn_runs_the_fingerprint_and_nothing_else(project: Project) -> None:
    project.repro()
    for module in EVERY_PACKAGE:
        path = project.folder / module
        path.write_text(path.read_text().replace('"""', '"""(In other words.) ', 1))
        assert project.repro() == {"fingerprint"}, module


def test_a_statement_runs_the_stages_that_import_its_module(project: Project) -> None:
    project.append("tunesmith/reports/curves.py", "\nADDED = 1\n")
    assert project.repro() == {"fingerprint", "compare"}  # its outputs are the same, so nothing follows
    project.append("tunesmith/training/objectives/grpo.py", "\nADDED = 1\n")
    assert project.repro() == {"fingerprint"}  # no entry of this project runs it
    project.append("tunesmith/data/dataset.py", "\nADDED = 1\n")
    assert project.repro() == {"fingerprint", "resolve_params", "prepare_data@demo"}


def test_status_names_the_fingerprint_and_a_diff_of_it_the_module(project: Project) -> None:
    before = (project.folder / "build/code/train_sft").read_text()
    project.append("tunesmith/training/objectives/sft.py", "\nADDED = 1\n")
    project.repro("fingerprint")
    assert "build/code/train_sft" in project.run("dvc", "status", "train_sft").stdout
    lines = set(before.splitlines()) ^ set((project.folder / "build/code/train_sft").read_text().splitlines())
    assert {line.split()[1] for line in lines} == {"tunesmith/training/objectives/sft.py"}
    project.run("git", "checkout", "tunesmith/training/objectives/sft.py")


def test_a_stage_with_code_that_no_fingerprint_names_is_refused(project: Project) -> None:
    project.append("tunesmith/reports/sentences.py", "\nADDED = 1\n")
    refused = project.run("dvc", "repro", "--force", "--single-item", "compare", check=False)
    assert refused.returncode != 0
    assert "tunesmith/reports/sentences.py" in refused.stderr
    assert "`dvc repro`" in refused.stderr
    assert project.repro() == {"fingerprint", "compare", "register"}  # the stages that import it


def test_a_new_entry_is_trained_evaluated_and_registered_and_a_removed_one_disappears(project: Project) -> None:
    project.put("sft.second", SFT | {"learning_rate": 0.04})
    done = project.run("dvc", "repro")
    assert running(done) == {"resolve_params", "train_sft@second", "evaluate", "compare", "register"}
    assert "1 models evaluated" in done.stdout
    assert project.read("reports/registered/second/registration.json")["version"] == "2"
    page = (project.folder / "reports/registered/comparison.html").read_text()
    registered = json.loads(page.split('id="registered">')[1].split("</script>")[0])
    assert {name: model["version"] for name, model in registered["models"].items()} == {"tuned": "1", "second": "2"}
    project.put("sft.second", None)
    assert project.repro() == {"resolve_params", "evaluate", "compare", "register"}
    assert set(project.read("reports/comparison.json")["models"]) == {"base", "tuned"}
    assert not (project.folder / "reports/registered/second").exists()


TASK = """
task: words
dataset_path: json
dataset_kwargs: {data_files: {test: data/tasks/words.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""


@pytest.mark.real
def test_a_new_suite_evaluates_every_model_and_retrains_none(project: Project) -> None:
    """It is a task of lm-eval, put first, so that it also ranks the models."""
    (project.folder / "data/tasks/words.yaml").write_text(TASK)
    (project.folder / "data/tasks/words.jsonl").write_text('{"text": "What is 3 + 4?"}\n{"text": "7"}\n')
    suites = project.params["evaluate"]["suites"]
    project.put("evaluate.suites", {"words": {"task": "data/tasks/words.yaml"}} | suites)
    assert project.repro() == {"resolve_params", "evaluate", "compare", "register"}
    assert list(project.read("reports/evaluation/tuned/metrics.json")["suites"]) == ["words", "arithmetic"]
    assert {path.name for path in (project.folder / "reports/scores").iterdir()} == {"arithmetic.csv", "words.csv"}
    compared = project.read("reports/comparison.json")
    assert (compared["suite"], compared["suites"]["words"]["metric"]) == ("words", "log-probability of a word")
    assert compared["models"]["tuned"]["score"] < 0
    again = project.run("dvc", "repro", "--force", "--single-item", "evaluate")
    assert "0 models evaluated" in again.stdout
    assert "2 kept" in again.stdout
    project.put("evaluate.suites", suites)
    assert project.repro() == {"resolve_params", "evaluate", "compare", "register"}


@pytest.mark.real
def test_earlier_params_restore_the_earlier_model_and_force_trains_it_again(project: Project) -> None:
    model, journal = project.folder / "models/tuned", project.folder / "models/tuned/training.jsonl"
    first, began = manifest.verify(model), journal.read_text()
    project.put("sft.tuned.lora", {"rank": 3, "alpha": 4})
    project.repro()
    assert manifest.verify(model).weights_digest != first.weights_digest
    project.put("sft.tuned.lora", ONE["sft"]["tuned"]["lora"])
    started = time.monotonic()
    done = project.run("dvc", "repro", "train_sft")
    took = time.monotonic() - started
    assert "restored from the same inputs' earlier run: models/tuned" in done.stdout
    assert manifest.verify(model) == first
    assert journal.read_text() == began, f"{took:.1f} s"
    project.run("dvc", "repro", "--force", "--single-item", "train_sft@tuned")
    assert manifest.verify(model).weights_digest == first.weights_digest
    assert journal.read_text() != began


def test_a_failed_run_loses_no_earlier_output(project: Project) -> None:
    before = manifest.verify(project.folder / "models/tuned")
    project.put("sft.tuned.max_length", 8)
    failed = project.run("dvc", "repro", check=False)
    assert "rows are longer than sft.tuned.max_length (8 tokens)" in failed.stderr
    assert manifest.verify(project.folder / "models/tuned") == before
    project.put("sft.tuned.max_length", 160)
    project.repro()


@pytest.mark.real
def test_a_temporary_experiment_is_registered_in_the_projects_registry_and_shown(project: Project) -> None:
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "as it is now")
    assert json.loads(project.run("tunesmith", "lineage", "tuned", "--json").stdout)
    project.run("dvc", "exp", "run", "--temp", "-n", "rank-4", "-S", "sft.tuned.lora.rank=4")
    shown = project.run("dvc", "exp", "show", "--csv", "--only-changed").stdout
    header, *rows = shown.splitlines()
    assert "sft.tuned.lora.rank" in header
    assert "tuned" in header
    assert any("rank-4" in row for row in rows)
    assert len(header.split(",")) < 20
    project.run("dvc", "exp", "apply", "rank-4")
    record = project.read("reports/registered/tuned/registration.json")
    assert record["tracking_uri"] == f"sqlite:///{project.folder.resolve() / 'mlflow.db'}"
    lineage = project.read("models/tuned/lineage.json")
    assert lineage["code"]["clean"]
    assert lineage["document"]["sft"]["tuned"]["lora"]["rank"] == 4
    assert f"version {record['version']}" in project.run("tunesmith", "lineage", record["version"]).stdout
