"""`tunesmith reproduce`: from a registered version to the same one again."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import warm_python
from click.testing import CliRunner, Result
from registered_versions import NAME, register, stored
from toy_project import Toy

from tunesmith.cli.main import main
from tunesmith.registry.provenance.sameness import SCORES
from tunesmith.registry.registered_models import Registry


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy") / "project"
    folder.mkdir()
    return Toy(folder)


@pytest.fixture
def registry(toy: Toy, schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The toy is version 1; five of ten prompts were right."""
    monkeypatch.chdir(toy.folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(warm_python.folder() / "python"))
    shutil.copy(schema, tmp_path / "mlflow.db")
    registry = Registry()
    scores = {"s": {str(number): float(number < 5) for number in range(10)}}
    register(registry, toy.folder / "models" / "toy", files={SCORES: json.dumps(scores)})
    return registry


def reproduced(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["reproduce", *arguments])


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("which", ["toy", "1"])
def test_a_version_is_rebuilt_byte_for_byte(toy: Toy, which: str) -> None:
    done = reproduced(which)
    assert done.exit_code == 0, done.exception
    assert "✓ toy: the same adapter, byte for byte" in done.stdout
    assert toy.worktrees() == []


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(("scores", "status"), [("4", 0), ("9", 1)])
def test_on_other_hardware_scores_are_compared_with_the_signed_ones(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, scores: str, status: int
) -> None:
    monkeypatch.setenv("NOISE", "x")
    monkeypatch.setenv("DEVICE", "NVIDIA H200")
    monkeypatch.setenv("SCORES", scores)
    done = reproduced("toy")
    assert done.exit_code == status, done.exception
    assert f"  s: 50.0% → {scores}0.0%; noise floor 10 points" in done.stdout
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ("evidence/*/scores.json", "its evidence was changed: scores.json"),
        ("samples.json", "s: 50.0% → 90.0%"),
    ],
)
def test_forged_scores_in_the_tracker_are_not_used(
    toy: Toy, registry: Registry, monkeypatch: pytest.MonkeyPatch, forged: str, message: str
) -> None:
    """Nine of ten right, as the model that comes out here has them; what was registered had five."""
    monkeypatch.setenv("NOISE", "x")
    monkeypatch.setenv("DEVICE", "NVIDIA H200")
    monkeypatch.setenv("SCORES", "9")
    artifacts = Path(registry.artifacts(registry.versions(NAME)[0].run))
    nine = {str(number): float(number < 9) for number in range(10)}
    if forged == "samples.json":
        columns = ["suite", "id", "score", "status"]
        rows = [["s", name, score, "scored"] for name, score in nine.items()]
        (artifacts / forged).write_text(json.dumps({"columns": columns, "data": rows}))
    else:
        [scores] = artifacts.glob(forged)
        scores.write_text(json.dumps({"s": nine}))
    done = reproduced("toy")
    assert done.exit_code == 1
    assert message in f"{done.stdout}{done.exception}"
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


def test_a_version_without_scores_is_an_error_where_they_are_needed(
    toy: Toy, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, toy.folder / "models" / "toy", "k2", files={})
    assert reproduced("2").exit_code == 0
    monkeypatch.setenv("NOISE", "x")
    done = reproduced("2")
    assert "registered without scores to compare" in str(done.exception)
    for tree in toy.worktrees():
        toy.run("git", "worktree", "remove", "--force", tree)


def test_a_version_that_was_tampered_with_is_not_rebuilt(toy: Toy, registry: Registry) -> None:
    (stored(registry, registry.versions(NAME)[0]) / "adapter_model.safetensors").write_bytes(b"x")
    done = reproduced("toy")
    assert done.exit_code == 1
    assert "adapter_model.safetensors (changed)" in str(done.exception)
    assert toy.worktrees() == []
