"""What travels beside the data: the files that the fingerprint names, params, and nothing else of the workspace."""

import zipfile
from pathlib import Path

import pytest

from tunesmith.core import fingerprint
from tunesmith.core.dvc_project import Stage
from tunesmith.runtime.cluster import plan

ROOT = Path(__file__).parents[3]
DEPS = ("build/code/train_sft", "build/params/train_sft/x.json", "models/base", "data/ready/demo/train.jsonl")
STAGE = Stage("train_sft@x", tuple(map(Path, DEPS)), (Path("models/x"),), runs=True)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the code of this one."""
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    for name in (*DEPS[:2], "params.yaml", "dvc.lock", "requirements.lock", "data/raw/rows.jsonl", ".env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stage_travels_as_the_modules_of_its_fingerprint_its_params_and_facts_of_its_lineage(root: Path) -> None:
    files = plan.stage_files(STAGE, "stages.train_sft", root)
    modules = {line.split("  ")[1] for line in fingerprint.of_stage("train_sft").splitlines() if "  " in line}
    facts = {"params.yaml", "dvc.lock", "requirements.lock"}
    travelling = {name for name in files if not name.endswith("__init__.py")}
    assert travelling == modules | set(DEPS[:2]) | facts
    assert not any(name.startswith(("data/", "models/", "tunesmith/registry", ".env")) for name in files)


def test_the_processes_on_a_node_bring_neither_trainers_nor_the_registry() -> None:
    names = set(plan.node_files())
    assert {f"tunesmith/runtime/cluster/{name}" for name in plan.NODE} <= names
    assert "tunesmith/core/dvc_store.py" in names
    assert "tunesmith/runtime/__init__.py" in names
    assert not [name for name in names if name.startswith(("tunesmith/training", "tunesmith/registry", "stages"))]


def test_the_same_files_make_the_same_archive_at_any_time(root: Path, tmp_path: Path) -> None:
    files = plan.stage_files(STAGE, "stages.train_sft", root)
    size = plan.write(tmp_path / "a.zip", files)
    (root / "params.yaml").touch()
    plan.write(tmp_path / "b.zip", dict(reversed(files.items())))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert size == (tmp_path / "a.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert set(archive.namelist()) == set(files)
