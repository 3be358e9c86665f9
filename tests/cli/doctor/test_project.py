import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tunesmith.cli.doctor import project as health
from tunesmith.core import checkpoints, manifest
from tunesmith.core.errors import IntegrityError, LineageError, ParamsError, RegistryError, SigningError
from tunesmith.registry.registered_models import Registry

ROOT = Path(__file__).parents[3]
KEY = "signing: {kind: key, private: %s, trusted: %s}\n"


def git(folder: Path, *arguments: str) -> None:
    person = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *person, *arguments], cwd=folder, check=True, capture_output=True)


def test_valid_params_are_good_and_missing_ones_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert health.values().level == "good"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError):
        health.values()


def test_git_without_a_checkout_or_with_changes_is_a_warning(tmp_path: Path) -> None:
    assert health.checkout(tmp_path).says.startswith("no checkout")
    git(tmp_path, "init", "-q")
    (tmp_path / "file").touch()
    found = health.checkout(tmp_path)
    assert (found.level, found.says.split(":")[0]) == ("warning", "uncommitted changes")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "c")
    assert health.checkout(tmp_path).level == "good"


@pytest.fixture
def dvc(tmp_path: Path) -> Path:
    """A folder that DVC takes for a project without git."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    return tmp_path


def test_a_folder_without_dvc_is_bad(tmp_path: Path) -> None:
    assert health.data_versions(tmp_path).level == "bad"


def test_dvc_names_its_cache(dvc: Path) -> None:
    found = health.data_versions(dvc)
    assert found.level == "good"
    assert str(dvc / ".dvc" / "cache") in found.says


def test_a_cache_that_cannot_be_written_is_bad(dvc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert health.data_versions(dvc).level == "bad"


@pytest.mark.parametrize(("written", "level"), [("{}", "good"), ("", "bad"), ('{"read": {"/a', "bad")])
def test_locks_that_a_killed_dvc_left_cut_off_are_bad(dvc: Path, written: str, level: str) -> None:
    (dvc / ".dvc" / "tmp").mkdir()
    (dvc / health.LOCKS).write_text(written)
    found = health.data_versions(dvc)
    assert (found.level, "`rm .dvc/tmp/rwlock`" in found.fix) == (level, level == "bad")


def test_a_pipeline_that_cannot_be_read_is_an_error(dvc: Path) -> None:
    (dvc / "dvc.yaml").write_text("stages: [")
    with pytest.raises(LineageError):
        health.data_versions(dvc)


def with_remote(dvc: Path, address: str) -> Path:
    (dvc / ".dvc" / "config").write_text(
        f"[core]\n    no_scm = true\n    remote = r\n['remote \"r\"']\n    url = {address}\n"
    )
    return dvc


def test_a_project_without_a_remote_is_a_warning(dvc: Path) -> None:
    assert health.remote(dvc).level == "warning"


def test_a_remote_that_exists_is_good_and_one_that_does_not_is_bad(dvc: Path) -> None:
    with_remote(dvc, "../../store")
    assert health.remote(dvc).level == "bad"
    (dvc / "store").mkdir()
    with_remote(dvc, str(dvc / "store"))
    assert health.remote(dvc).level == "good"


def test_a_remote_whose_store_fails_is_bad_with_the_stores_reason(dvc: Path) -> None:
    def fails(root: Path) -> bool:
        raise ConnectionError("no route to host")

    found = health.remote(with_remote(dvc, "ssh://host/store"), fails)
    assert found.level == "bad"
    assert "no route to host" in found.says


def test_a_tracker_that_does_not_exist_yet_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert health.tracker().level == "good"
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_answers_is_good_and_a_dead_one_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MLflow answers (sqlite)" in health.tracker().says
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9"):
        health.tracker()


def test_tables_of_another_release_are_an_error(project: Path) -> None:
    import sqlite3

    Registry()
    database = sqlite3.connect(project / "mlflow.db")
    database.execute("UPDATE alembic_version SET version_num = 'bd07f7e963c5'")
    database.commit()
    database.close()
    shutil.move(project / "mlflow.db", project / "old.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/old.db")
        with pytest.raises(RegistryError, match="schema"):
            health.tracker()


@pytest.fixture
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params that name the user's own key, which is not made yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "params.yaml").write_text(KEY % ("null", "[]"))
    return tmp_path


def made_key(folder: Path) -> Path:
    from tunesmith.registry.signing import Key, private_key

    return private_key(Key(kind="key", private=None, trusted=[]))


def test_a_key_that_does_not_exist_yet_is_not_created(signing: Path) -> None:
    assert health.keys().level == "good"
    assert not (signing / "config").exists()


def test_a_private_key_that_others_can_read_is_bad(signing: Path) -> None:
    key = made_key(signing)
    assert health.keys().level == "good"
    key.chmod(0o640)
    found = health.keys()
    assert (found.level, found.fix) == ("bad", f"`chmod 600 {key}`")


def test_a_key_file_that_does_not_exist_is_bad(signing: Path) -> None:
    (signing / "params.yaml").write_text(KEY % ("absent.pem", "[]"))
    assert health.keys().says == "no file absent.pem"


def test_a_trusted_key_that_cannot_be_read_is_an_error(signing: Path) -> None:
    (signing / "params.yaml").write_text(KEY % ("null", "[keys/ada.pub]"))
    with pytest.raises(SigningError, match=r"keys/ada\.pub"):
        health.keys()
    (signing / "keys").mkdir()
    (signing / "keys" / "ada.pub").write_text("no key")
    with pytest.raises(SigningError, match=r"keys/ada\.pub"):
        health.keys()


def test_missing_certificates_are_named(signing: Path) -> None:
    certificate = {"kind": "certificate", "private": "k", "certificate": "c", "chain": [], "roots": ["r"]}
    (signing / "params.yaml").write_text(json.dumps({"signing": certificate}))
    assert health.keys().says == "no file k, c, r"


def test_sigstore_needs_no_file(signing: Path) -> None:
    sigstore = {"kind": "sigstore", "identity": "ada@example.org", "issuer": "https://issuer.example"}
    (signing / "params.yaml").write_text(json.dumps({"signing": sigstore}))
    assert "ada@example.org" in health.keys().says


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w" * 10)
    (folder / "lineage.json").write_text(json.dumps({"source": "package demo==1 sha256:00"}))
    manifest.write(folder)
    return folder


def test_a_complete_base_is_good(base: Path) -> None:
    assert health.base_model(base).says.startswith("package demo==1, digest ")


def test_a_base_that_is_not_fetched_yet_is_a_warning(tmp_path: Path) -> None:
    found = health.base_model(tmp_path / "base")
    assert (found.level, found.fix) == ("warning", "`dvc repro fetch_base`")


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"w" * 9), ("lineage.json", b"{}"), ("odd.json", b""), ("manifest.json", b"{")],
)
def test_a_truncated_changed_or_extended_base_is_an_error(base: Path, name: str, content: bytes) -> None:
    (base / name).write_bytes(content)
    with pytest.raises(IntegrityError):
        health.base_model(base)


def test_trainings_that_are_not_done_are_shown_and_cleared_unless_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert health.trainings(tmp_path).level == "good"
    for model in ("done", "stopped"):
        (checkpoints.place(model, "a" * 64) / "step-00000040").mkdir(parents=True)
        (checkpoints.place(model, "a" * 64) / "step-00000040" / "optimizer.pt").write_bytes(bytes(2000))
    found = health.trainings(tmp_path)
    assert (found.level, found.says) == (
        "warning",
        "not done: done (step 40, 2.0 kB, 0s ago), stopped (step 40, 2.0 kB, 0s ago)",
    )
    with checkpoints.opened("done", "a" * 64):
        lines = health.clear_checkpoints(tmp_path)
    assert lines == ["done, step 40, 2.0 kB: runs now, and is left alone", "stopped, step 40, 2.0 kB: removed"]
    assert health.trainings(tmp_path).level == "good"
