"""What a stage becomes: its declared inputs by digest, the reports that it updates, and a share of the models each."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from runtime_settings import runtime

from tunesmith.core import layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.dvc_store import Address
from tunesmith.core.errors import ParamsError
from tunesmith.runtime.cluster import plan
from tunesmith.runtime.cluster.job import Job, Saved

ROOT = Path(__file__).parents[3]
RUNTIME = runtime(engine="ray", address="a:1", image=None, workers=2, cpus=4, checkpoint_minutes=2)
TRAINING = Stage(
    "train_sft@x",
    (Path("build/code/train_sft"), Path("models/base"), Path("data/ready/demo/train.jsonl")),
    (Path("models/x"),),
    runs=True,
    command="exec python -m tunesmith.runtime train_sft x",
)
EVALUATION = Stage(
    "evaluate",
    (Path("build/code/evaluate"), Path("build/params/evaluate.json"), Path("models"), Path("data/ready")),
    (Path("reports/evaluation"), Path("reports/metrics.json")),
    runs=True,
    command="exec python -m tunesmith.runtime evaluate",
)
FILES = {
    "build/code/train_sft": "code",
    "build/params/evaluate.json": json.dumps({"models": ["x"]}),
    "models/base/weights": "base",
    "models/x/weights": "x",
    "models/x/lineage.json": json.dumps({"on": {"model": "base"}}),
    "models/.x.partial/weights": "half",
    "data/ready/demo/train.jsonl": "rows",
    "data/raw/rows.jsonl": "raw",
    "reports/evaluation/x/metrics.json": "x",
    "reports/comparison.json": "another stage's",
}


@pytest.fixture
def root(dvc_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (dvc_project / "stages").symlink_to(ROOT / "stages")
    (dvc_project / ".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    for name, text in FILES.items():
        (dvc_project / name).parent.mkdir(parents=True, exist_ok=True)
        (dvc_project / name).write_text(text)
    monkeypatch.chdir(dvc_project)
    return dvc_project


def planned(stage: Stage, root: Path) -> tuple[Job, list[Job]]:
    return plan.job(stage, RUNTIME, root, Address("/mnt/shared"), "run", Saved("checkpoints/run"))


def test_a_training_takes_what_it_declares_and_nothing_else_of_the_workspace(root: Path) -> None:
    job, parts = planned(TRAINING, root)
    assert set(job.inputs) == {"models/base/weights", "data/ready/demo/train.jsonl"}
    assert parts == [job]
    assert (job.module, job.arguments, job.model, job.outs) == ("stages.train_sft", ("x",), "x", ("models/x",))
    assert (job.cpus, job.workers, job.restarts) == (4, 2, 3)
    assert "build/code/train_sft" in job.code
    assert "stages/train_sft.py" in job.code


def test_a_training_takes_the_images_of_its_rows_too(root: Path) -> None:
    for name in ("demo/images/a.png", "other/images/b.png"):
        (root / layout.READY / name).parent.mkdir(parents=True)
        (root / layout.READY / name).write_text(name)
    job, _ = planned(TRAINING, root)
    assert set(job.inputs) == {"models/base/weights", "data/ready/demo/train.jsonl", "data/ready/demo/images/a.png"}


def test_checkers_of_rows_are_sent_the_bases_tokenizer_and_no_weights(root: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (root / "models/base" / name).write_text(name)
    stage = replace(
        TRAINING,
        target="prepare_data@demo",
        deps=(Path("models/base"), Path("data/raw")),
        outs=(Path("data/ready/demo"),),
        command="exec python -m tunesmith.runtime prepare_data demo",
    )
    job, parts = planned(stage, root)
    assert set(job.inputs) == {"models/base/weights", "models/base/tokenizer.json", "data/raw/rows.jsonl"}
    assert parts == [job]
    assert "models/base/model.safetensors" in planned(TRAINING, root)[0].inputs


@pytest.mark.parametrize(("gpus", "workers"), [(2, 1), (0.5, 2)])
def test_each_worker_of_a_training_has_one_gpu(root: Path, gpus: float, workers: int) -> None:
    wrong = RUNTIME.model_copy(update={"gpus_per_worker": gpus, "workers": workers})
    with pytest.raises(ParamsError, match="gpus_per_worker is"):
        plan.job(TRAINING, wrong, root, Address("/mnt/shared"), "run", Saved("checkpoints/run"))
    plan.job(EVALUATION, wrong, root, Address("/mnt/shared"), "run", Saved("checkpoints/run"))


def test_facts_that_a_node_cannot_know_travel_as_variables(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hidden-token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    job, _ = planned(TRAINING, root)
    assert json.loads(job.variables[layout.CODE_VARIABLE])["commit"] is None  # nothing is committed here
    assert job.variables[layout.CHECKPOINT_VARIABLE] == "120.0"
    assert "hidden" not in repr(job)


def test_an_evaluation_is_divided_by_model_and_keeps_reports_that_may_still_hold(root: Path) -> None:
    job, parts = planned(EVALUATION, root)
    assert job.model is None
    assert [part.arguments for part in parts] == [("base",), ("x",)]
    common = {"data/ready/demo/train.jsonl", "models/base/weights"}
    assert set(parts[0].inputs) == common
    own = {"models/x/weights", "models/x/lineage.json", "reports/evaluation/x/metrics.json"}
    assert set(parts[1].inputs) == common | own
