import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tunesmith.core import fingerprint, lineage, manifest

LOCK = """
stages:
  prepare:
    outs: [{path: data/ready/demo, hash: md5, md5: fresh.dir}]
  train:
    deps: [{path: data/ready/demo/train.jsonl, hash: md5, md5: stale}]
"""


def test_the_dvc_hash_is_that_of_the_last_output_not_of_an_earlier_use(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    recorded = lineage.dvc_hash(Path("data/ready/demo/train.jsonl"), tmp_path / "dvc.lock")
    assert recorded == {"dvc": "md5:fresh.dir"}


def test_a_path_that_dvc_does_not_know_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert lineage.dvc_hash(Path("elsewhere"), tmp_path / "dvc.lock") == {}
    assert lineage.dvc_hash(Path("elsewhere"), tmp_path / "none") == {}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in no checkout; git looks no further up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("TUNESMITH_CODE", raising=False)
    (tmp_path / "tunesmith").mkdir()
    (tmp_path / "tunesmith" / "__init__.py").touch()
    return tmp_path


def test_a_project_without_the_package_records_the_one_that_is_installed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "package" not in lineage.code()
    (here / "tunesmith").rename(here / "elsewhere")
    recorded = lineage.code()["package"]
    assert recorded["version"] == version("tunesmith")
    monkeypatch.setattr(fingerprint, "PACKAGE", here / "elsewhere")
    digest = lineage.package()["sha256"]
    assert digest != recorded["sha256"]
    (here / "elsewhere" / "pipeline").mkdir()
    (here / "elsewhere" / "pipeline" / "dvc.yaml").touch()  # only a wheel has it
    assert lineage.package()["sha256"] == digest
    (here / "elsewhere" / "__init__.py").write_text("edited = True")
    assert lineage.package()["sha256"] != digest


def test_code_is_clean_where_only_dvc_lock_and_params_yaml_changed(here: Path) -> None:
    (here / "file").touch()
    person = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], [*person, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (here / "dvc.lock").touch()
    (here / "params.yaml").touch()  # the lineage holds it
    assert lineage.code() == {"commit": commit, "clean": True}
    (here / "file").write_text("changed")
    assert lineage.code() == {"commit": commit, "clean": False}


@pytest.fixture
def stage(here: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], lineage.Lineage]:
    """The lineage that the stage train_sft would collect in the current folder."""
    monkeypatch.setattr("sys.argv", ["stages/train_sft.py", "mine"])
    base = manifest.read(tiny_base)
    return lambda: lineage.collect(base=base, source="folder", inputs=[], params={}, seed=1, device="a test")


def test_the_lineage_holds_the_fingerprint_of_its_stage(here: Path, stage: Callable[[], lineage.Lineage]) -> None:
    assert stage()["fingerprint"] is None
    path = here / fingerprint.FOLDER / "train_sft"
    path.parent.mkdir(parents=True)
    path.write_text("c0ffee  stages/train_sft.py\n")
    assert stage()["fingerprint"] == manifest.file_digest(path)


def test_the_lineage_holds_params_yaml_as_it_stood(here: Path, stage: Callable[[], lineage.Lineage]) -> None:
    assert stage()["document"] == {}
    (here / "params.yaml").write_text("sft: {mine: {dataset: d, learning_rate: 1.0e-3}}  # a comment\n")
    assert stage()["document"] == {"sft": {"mine": {"dataset": "d", "learning_rate": 0.001}}}


def test_without_git_or_a_commit_the_code_is_unknown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = {"commit": None, "clean": None}
    assert lineage.code() == unknown
    subprocess.run(["git", "init", "-q"], check=True)
    assert lineage.code() == unknown
    monkeypatch.setenv("PATH", str(here))  # as where there is no git
    assert lineage.code() == unknown


def test_a_container_gets_its_code_from_the_host(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CODE", '{"commit": "c0ffee", "clean": true}')
    assert lineage.code() == {"commit": "c0ffee", "clean": True}


def test_an_input_says_how_many_images_its_rows_name(here: Path) -> None:
    row = b'{"prompt":[{"role":"user","content":[{"type":"image","image":"%b","width":1,"height":1}]}]}\n'
    text = b'{"prompt":[{"role":"user","content":"{\\"image\\":\\"%b\\"}"}]}\n' % (b"c" * 64)
    seen = [row % (b"a" * 64), row % (b"a" * 64), row % (b"b" * 64), text]
    for name, lines in {"seen": seen, "text": [text]}.items():
        (here / f"{name}.jsonl").write_bytes(b"".join(lines))
    inputs = [Path("seen.jsonl"), Path("text.jsonl")]
    made = lineage.collect(base=manifest.Manifest({}), source="s", inputs=inputs, params={}, seed=1, device="cpu")
    assert made["inputs"]["seen.jsonl"]["images"] == 2
    assert "images" not in made["inputs"]["text.jsonl"]
