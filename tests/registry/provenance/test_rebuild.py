"""A model is rebuilt from its commit: the same bytes, or a list of what differs; and nothing is left behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import method_project
import pytest
import warm_python
import yaml
from toy_project import PARAMS, ROOT, Toy

from tunesmith.core import layout, lineage, manifest
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError
from tunesmith.registry.provenance import rebuild
from tunesmith.registry.provenance.rebuild import Original, Outcome
from tunesmith.registry.provenance.sameness import Scores
from tunesmith.registry.provenance.worktree import Worktree

SCORES: dict[str, Scores] = {"s": {str(number): float(number < 5) for number in range(10)}}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy") / "project"
    folder.mkdir()
    return Toy(folder)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders, work trees among them, go here. Pipelines run on libraries that are imported already."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(sys, "executable", str(warm_python.folder() / "python"))


def again(toy: Toy, **how: Any) -> Outcome:
    return rebuild.reproduce(Original("toy", toy.original, SCORES), toy.folder, **how)


def edited(toy: Toy, tmp_path: Path, **changes: Any) -> Toy:
    """The same project with another original: what a record says can be wrong in many ways."""
    other = object.__new__(Toy)
    other.folder, other.original = toy.folder, tmp_path / "other"
    shutil.copytree(toy.original, other.original)
    (other.original / "lineage.json").write_text(json.dumps(toy.lineage() | changes))
    manifest.write(other.original)
    return other


def test_a_rebuild_gives_the_same_bytes_and_leaves_nothing(toy: Toy, tmp_path: Path) -> None:
    before = sorted((toy.folder / ".dvc" / "cache").rglob("*"))
    outcome = again(toy)
    assert outcome.reproduced
    assert next(rebuild.report(outcome)).startswith("✓ toy: the same adapter, byte for byte")
    assert set(outcome.files.same) == {"adapter_model.safetensors", "adapter_config.json"}
    assert set(outcome.files.expected) == {"training.jsonl", "lineage.json"}
    assert outcome.files.origin == ()
    assert toy.worktrees() == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted((toy.folder / ".dvc" / "cache").rglob("*")) == before
    assert toy.run("git", "status", "--porcelain") == "?? dvc.lock"


def test_inputs_outside_git_and_dvc_are_copied_with_a_note(toy: Toy) -> None:
    notes: list[str] = []
    again(toy, say=notes.append)
    assert [line for line in notes if "neither in git nor under DVC" in line] == [
        f"  data/more.jsonl: neither in git nor under DVC: taken from {toy.folder} as it is today"
    ]


def test_a_folder_that_git_has_in_part_is_completed(tmp_path: Path) -> None:
    root, tree = tmp_path / "root", tmp_path / "tree"
    for name in ("README", "new", "rows.jsonl", "deep/rows.jsonl", "made.jsonl", ".cache/x", "__pycache__/x.pyc"):
        (root / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "raw" / name).write_text(name)
    (root / ".gitignore").write_text("*.jsonl\n.cache\n__pycache__\n")
    (tree / "raw").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    stages = [Stage("prepare", (Path("raw"),), (), True), Stage("make", (), (Path("raw/made.jsonl"),), True)]
    brought = Worktree(root, tree, tree, keep=False).bring(stages, stages)
    assert sorted(brought) == [Path("raw/deep/rows.jsonl"), Path("raw/rows.jsonl")]
    assert {path.read_text() for path in (tree / "raw").rglob("*.jsonl")} == {"rows.jsonl", "deep/rows.jsonl"}


def test_an_input_that_is_nowhere_is_an_error_that_names_it(toy: Toy) -> None:
    hidden = (toy.folder / "data" / "more.jsonl").rename(toy.folder / "hidden")
    try:
        with pytest.raises(LineageError, match=r"data/more\.jsonl: neither in git, nor under DVC, nor here"):
            again(toy)
    finally:
        hidden.rename(toy.folder / "data" / "more.jsonl")
        for tree in toy.worktrees():
            toy.run("git", "worktree", "remove", "--force", tree)


def test_code_params_and_data_are_those_of_the_commit(toy: Toy) -> None:
    files = [toy.folder / name for name in ("stages/make.py", "params.yaml", "data/rows.jsonl", "dvc.yaml")]
    before = {path: path.read_bytes() for path in files}
    try:
        for path in files:
            path.write_text("broken: [")
        assert again(toy).reproduced
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def test_params_are_those_of_the_run_where_they_differ_from_the_commits(toy: Toy, tmp_path: Path) -> None:
    """As after `dvc exp run -S`: params.yaml changed, and was not committed."""
    document, notes = yaml.safe_load(PARAMS), list[str]()
    document["sft"]["toy"]["lora"]["rank"] = 7
    other = edited(toy, tmp_path, document=document, params={"sft": {"toy": document["sft"]["toy"] | {"seed": 20}}})
    rows = b"rows\nmore\n"
    (other.original / "adapter_model.safetensors").write_bytes(rows + b"7")
    manifest.write(other.original)
    outcome = again(other, say=notes.append)
    assert outcome.reproduced, list(rebuild.report(outcome))
    assert outcome.files.origin == ()
    assert "toy: params.yaml is that of the run, which differs from the commit's" in notes


def test_no_earlier_run_is_restored_in_the_work_tree(toy: Toy, tmp_path: Path) -> None:
    outcome = again(toy, into=tmp_path / "into", keep=True)
    assert outcome.kept is not None
    assert outcome.kept.environment()[layout.RERUN_VARIABLE]
    toy.run(*outcome.kept.removal.split())


def test_the_report_on_another_model_lists_what_differs_and_its_work_tree_stays(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "x")
    into = tmp_path / "into"
    outcome = again(toy, into=into)
    assert not outcome.reproduced
    lines = list(rebuild.report(outcome))
    assert lines[0].startswith("✗ toy: another adapter, though it was made on the same hardware")
    assert "  differs: adapter_model.safetensors" in lines
    assert any(line.startswith("  differs in its lineage: where:") for line in lines)
    assert (into / "models" / "toy" / "adapter_model.safetensors").exists()
    assert outcome.kept is not None
    toy.run(*outcome.kept.removal.split())
    assert toy.worktrees() == []


@pytest.mark.parametrize(("right", "same"), [("5", True), ("4", True), ("6", True), ("3", False), ("8", False)])
def test_on_other_hardware_scores_within_the_noise_floor_make_the_same_model(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, right: str, same: bool
) -> None:
    monkeypatch.setenv("NOISE", "x")
    monkeypatch.setenv("DEVICE", "another CPU x 2, float32")
    monkeypatch.setenv("SCORES", right)
    outcome = again(toy)
    assert outcome.reproduced is same
    [suite] = outcome.scores
    assert (suite.then, suite.now, suite.floor) == (0.5, int(right) / 10, pytest.approx(0.1))
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


def test_a_failed_stage_is_an_error_and_its_work_tree_stays(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(LineageError, match="exit status") as error:
        again(toy)
    [tree] = toy.worktrees()
    assert f"git worktree remove --force {tree}" in error.value.fix
    toy.run("git", "worktree", "remove", "--force", tree)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ({"commit": None, "clean": None}, "not trained in a git checkout"),
        ({"commit": "0" * 40, "clean": True}, "does not have"),
        ({"commit": "--upload-pack=touch x", "clean": True}, "does not have"),
        ({"commit": "HEAD", "clean": True}, "does not have"),
    ],
)
def test_a_record_without_a_commit_that_is_here_is_refused(
    toy: Toy, tmp_path: Path, code: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LineageError, match=reason):
        again(edited(toy, tmp_path, code=code), anyway=True)
    assert toy.worktrees() == []


def test_uncommitted_changes_are_refused_except_with_anyway(toy: Toy, tmp_path: Path) -> None:
    other = edited(toy, tmp_path, code=toy.lineage()["code"] | {"clean": False})
    with pytest.raises(LineageError, match="changes that were not committed"):
        again(other)
    outcome = again(other, anyway=True)
    assert outcome.reproduced
    assert [(change.name, change.then, change.now) for change in outcome.files.origin] == [("code.clean", False, True)]


def test_a_folder_that_is_not_empty_is_left_alone(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(LineageError, match="not empty"):
        again(toy, into=tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_model_that_no_stage_makes_is_an_error(toy: Toy) -> None:
    with pytest.raises(LineageError, match=r"no stage .* makes models/another"):
        rebuild.reproduce(Original("another", toy.original, {}), toy.folder)
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


def test_code_other_than_the_commits_does_not_run(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that Python would find first, as a `sitecustomize` or a zipped install can make it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tunesmith"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with pytest.raises(LineageError, match="Python would run other code there"):
        again(toy)
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


def test_where_the_commit_holds_no_package_the_installed_one_must_be_that_of_the_lineage(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a project of `tunesmith init`."""
    toy.run("git", "rm", "-rq", "--cached", "tunesmith")
    toy.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "own")
    code: dict[str, Any] = {"commit": toy.run("git", "rev-parse", "HEAD"), "clean": True}
    toy.run("git", "reset", "-q", "HEAD~1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the package is installed
    now = lineage.package()
    outcome = again(edited(toy, tmp_path, code=code | {"package": now}))
    assert outcome.reproduced, list(rebuild.report(outcome))
    assert outcome.files.origin == ()
    for then, reason in (
        (None, "does not name the package"),
        (now | {"version": "0.0.1"}, r"made by tunesmith 0\.0\.1(.|\n)*`pip install tunesmith==0\.0\.1`"),
        (now | {"sha256": "0" * 64}, "another build of tunesmith"),
    ):
        shutil.rmtree(tmp_path / "other")
        other = edited(toy, tmp_path, code=code | ({"package": then} if then else {}))
        with pytest.raises(LineageError, match=reason):
            again(other)
    outcome = again(other, anyway=True)
    assert outcome.reproduced
    assert [change.name for change in outcome.files.origin] == ["code.package.sha256"]
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


def test_nothing_is_published_to_the_teams_tracker(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    into = tmp_path / "into"
    outcome = again(toy, into=into, keep=True)
    assert outcome.kept is not None
    assert outcome.kept.environment()["MLFLOW_TRACKING_URI"] == f"sqlite:///{into}/mlflow.db"
    toy.run("git", "worktree", "remove", "--force", str(into))


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from tunesmith.registry.provenance import rebuild
from tunesmith.registry.provenance.rebuild import Original
project, original, into = map(Path, sys.argv[1:])
def interrupt():
    while not Path(os.environ["STARTED"]).exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    rebuild.reproduce(Original("toy", original, {}), project, into=into)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupted_rebuild_leaves_neither_a_work_tree_nor_a_process(toy: Toy, tmp_path: Path) -> None:
    into = tmp_path / "into"
    command = [sys.executable, "-c", INTERRUPTED, str(toy.folder), str(toy.original), str(into)]
    started = os.environ | {"STARTED": str(tmp_path / "started")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=started)
    assert done.returncode == 130, done.stderr
    assert not into.exists()
    assert toy.worktrees() == []
    inside = [link for link in Path("/proc").glob("[0-9]*/cwd") if _target(link).startswith(str(into))]
    assert inside == []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


@pytest.fixture
def trained(tiny_base: Path, tmp_path: Path) -> Path:
    """A project with the real stages of a training, and a tiny base under `dvc add`."""
    answers = {"path": "raw.jsonl", "kind": "answers"}
    params = {
        "data": {"answers": answers},
        "sft": {"sft-lora": method_project.PARAMS["sft"]["sft-lora"]},
        "evaluate": {"suites": {"sums": {"dataset": "answers", "verifier": "number"}}},
    }
    folder = method_project.make(tmp_path / "trained", tiny_base, params)
    (folder / "raw.jsonl").touch()
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stages = {name: pipeline["stages"][name] for name in ("fingerprint", "resolve_params", "train_sft")}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"vars": pipeline["vars"], "stages": stages}))
    for name in ("tunesmith", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "data" / "held_out").mkdir()
    (folder / "data" / "held_out" / "README.md").touch()
    ignored = "__pycache__/\nmlflow.db*\nmlartifacts/\nbuild/\ndata/ready/\nmodels/*\n!models/*.dvc\n"
    (folder / ".gitignore").write_text(ignored)
    return folder


def test_a_trained_adapter_comes_out_byte_for_byte(trained: Path) -> None:
    toy = object.__new__(Toy)
    toy.folder = trained
    toy.run("git", "init", "-q")
    toy.dvc("init", "-q")
    toy.dvc("add", "-q", "models/base")
    toy.commit("start")
    shutil.rmtree(trained / "build")
    toy.dvc("repro", "train_sft@sft-lora")
    model = trained / "models" / "sft-lora"
    outcome = rebuild.reproduce(Original("sft-lora", model, {}), trained)
    assert "adapter_model.safetensors" in outcome.files.same
    assert outcome.reproduced, list(rebuild.report(outcome))
    assert lineage.read(model)["code"]["clean"] is True
    assert toy.worktrees() == []
