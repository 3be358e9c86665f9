import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.core import params
from tunesmith.core.errors import LineageError, ParamsError, TunesmithError
from tunesmith.sweeps import plan, store
from tunesmith.sweeps.plan import Plan

PARAMS: dict[str, Any] = {
    "data": {
        "rows": {"path": "data/rows.jsonl", "splits": {"validation": 0.2, "test": 0.2}},
        "pairs": {"path": "data/pairs.jsonl", "splits": {"validation": 0.2, "test": 0.2}},
        "unmeasured": {"path": "data/rows.jsonl", "splits": {"validation": 0.0, "test": 0.2}},
    },
    "sft": {
        "mine": {"dataset": "rows", "learning_rate": 0.001, "lora": {"rank": 16}},
        "blind": {"dataset": "unmeasured"},
    },
    "dpo": {"tastes": {"dataset": "pairs", "start": "mine"}},
    "evaluate": {"suites": {"s": {"dataset": "rows", "verifier": "exact"}}},
}


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git, the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (tmp_path / "data" / "held_out").mkdir(parents=True)
    (tmp_path / "data" / "held_out" / "README.md").write_text("held out")
    for name in ("rows", "pairs"):
        (tmp_path / "data" / f"{name}.jsonl").write_text(json.dumps({"question": "a", "answer": "b"}) + "\n")
    (tmp_path / ".gitignore").write_text("build/\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    return tmp_path


def make(project: Path, place: str, *over: str, by: str | None = None) -> Plan:
    return plan.make(project, place, over or ("epochs=1,2",), by)


def test_a_plan_names_the_stage_the_measurement_and_the_present_values(project: Path) -> None:
    made = make(project, "sft.mine", "lora.rank=8,16", "epochs=1:3", "neftune=null,5.0")
    assert (made.target, made.by, made.lower_is_better) == ("train_sft@mine", "loss", True)
    assert made.present == {"lora.rank": 16, "epochs": 1, "neftune": None}
    assert made.placed({"lora.rank": 8}) == {"sft.mine.lora.rank": 8}
    assert set(make(project, "tastes").params["models"]) == {"tastes", "mine"}  # type: ignore[call-overload]


MISUSES: list[tuple[list[str], str | None, str]] = [
    (["sft.mien", "epochs=1,2"], None, "no training 'sft.mien'; did you mean 'sft.mine'"),
    (["sft.mine", "epoch=1,2"], None, "sft.mine.epoch: unknown param; did you mean 'epochs'"),
    (["sft.mine", "lora.rnk=1,2"], None, "sft.mine.lora.rnk: unknown param; did you mean 'rank'"),
    (["sft.mine", "lora.rank=8,0"], None, "sft.mine.lora.rank"),
    (["sft.mine", "epochs=1.0:3.0"], None, "sft.mine.epochs"),  # some between them are not whole
    (["sft.mine", "learning_rate=-1.0:1.0"], None, "sft.mine.learning_rate"),
    (["sft.mine", "weights=lora,some"], None, "sft.mine.weights"),
    (["sft.mine", "dataset=rows,pairs"], None, "dataset: it changes the rows"),
    (["sft.mine", "epochs=1,2"], "accuracy", "--by accuracy: trainings of sft do not measure it"),
    (["tastes", "beta=0.1,0.5"], None, "beta: the validation loss scales with it"),
    (["sft.blind", "epochs=1,2"], None, "validation split of data.unmeasured has no rows"),
]


@pytest.mark.parametrize(("words", "by", "reason"), MISUSES, ids=[" ".join(words) for words, _, _ in MISUSES])
def test_a_misuse_is_told_before_the_first_trial(project: Path, words: list[str], by: str | None, reason: str) -> None:
    before = (project / params.PATH).read_text()
    with pytest.raises(ParamsError, match=reason) as refused:
        make(project, *words, by=by)
    assert refused.value.fix
    assert (project / params.PATH).read_text() == before


def test_a_sweep_needs_a_commit_that_holds_all_but_params_and_lock(project: Path) -> None:
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"sft": {"mine": PARAMS["sft"]["mine"]}}))
    (project / "dvc.lock").write_text("schema: '2.0'\n")
    make(project, "sft.mine")
    (project / "stage.py").write_text("")
    with pytest.raises(LineageError, match="not committed"):
        make(project, "sft.mine")


def test_values_that_are_valid_alone_are_checked_together(project: Path) -> None:
    raw = params.read(project / params.PATH)
    plan.check(raw, {"sft.mine.float8": True, "sft.mine.compile": True}, params.PATH)
    with pytest.raises(TunesmithError, match="float8"):
        plan.check(raw, {"sft.mine.float8": True, "sft.mine.compile": False}, params.PATH)


def test_the_same_plan_goes_on_and_another_is_another_sweep(project: Path) -> None:
    first = make(project, "sft.mine")
    assert store.name(first, 0) == "mine-s1"
    assert store.name(first, 0) == "mine-s1"
    assert store.name(first, 1) == "mine-s2"
    assert store.name(make(project, "sft.mine", "epochs=1,3"), 1) == "mine-s3"
    assert store.name(make(project, "tastes"), 0) == "tastes-s1"
    changed = PARAMS | {"sft": PARAMS["sft"] | {"mine": PARAMS["sft"]["mine"] | {"max_length": 64}}}
    (project / "params.yaml").write_text(yaml.safe_dump(changed))
    assert store.name(make(project, "sft.mine", "epochs=1,3"), 1) == "mine-s4"


def test_validation_rows_must_have_come_into_the_split(project: Path) -> None:
    folder = project / "data" / "ready" / "rows"
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_text("")
    with pytest.raises(ParamsError, match="no row came into the validation split"):
        plan.check_rows("rows")
    (folder / "validation.jsonl").write_text("{}\n{}\n")
    assert plan.check_rows("rows") == 2


def test_values_that_others_share_are_refused_before_anything_runs(project: Path) -> None:
    path = project / params.PATH
    twins = path.read_text().replace("  mine:\n", "  mine: &mine\n").replace("rank: 16\n", "rank: 16\n      alpha: 8\n")
    text = twins.replace("  blind:\n", "  twin:\n    <<: *mine\n  blind:\n")
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"twin: lora\.rank cannot be changed without touching other values"):
        make(project, "sft.twin", "lora.rank=8,16")
    assert make(project, "sft.twin", "epochs=1,2").text == text
