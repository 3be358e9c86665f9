"""Artifacts in folders: the same copies as MLflow's client makes, and nothing from outside of a run's."""

from pathlib import Path

import pytest

from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.registry import mlflow_sqlite
from tunesmith.registry.runs import Experiment


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Of a run, with one model and a secret beside them."""
    place = tmp_path / "run" / "artifacts"
    (place / "model" / "deep").mkdir(parents=True)
    (place / "model" / "a").write_text("a")
    (place / "model" / "deep" / ".b").write_text("b")
    (tmp_path / "run" / "secret").write_text("s")
    return place


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


@pytest.mark.parametrize("name", ["plain", "with space", "c#1", "a;b?", "ü", "100%"])
def test_a_copy_is_the_one_that_mlflow_makes(
    schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the folder of the project is called that MLflow, too, can work in."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_bytes(schema.read_bytes())
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    experiment = Experiment("in it")
    run = experiment.run("k", "m", 0, {})
    for file in ("model/a", "model/deep/b"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(file)
    experiment.upload(run, Path("model"), "model")
    for path in ("model", "model/deep", "model/a"):
        (tmp_path / "ours" / path).mkdir(parents=True)
        (tmp_path / "theirs" / path).mkdir(parents=True)
        ours = experiment.download(run, path, tmp_path / "ours" / path)
        theirs = Path(experiment.client.download_artifacts(run, path, str(tmp_path / "theirs" / path)))
        assert ours.relative_to(tmp_path / "ours") == theirs.relative_to(tmp_path / "theirs")
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    assert experiment.folders(run, "model") == ["deep"]


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_an_address_elsewhere_is_no_folder() -> None:
    assert mlflow_sqlite.folder("s3://bucket/run") is None
    assert mlflow_sqlite.folder("mlflow-artifacts:/0/run") is None
    assert mlflow_sqlite.folder("file:///a%20b/run") == Path("/a b/run")


def test_what_is_there_is_copied_over(artifacts: Path, into: Path) -> None:
    (into / "model").mkdir()
    (into / "model" / "a").write_text("old")
    assert tree(mlflow_sqlite.copy(artifacts, "model", into)) == {"a": "a", "deep/.b": "b"}


@pytest.mark.parametrize("path", ["../secret", "..", "model/../../secret", "/etc/hostname", "nothing"])
def test_what_is_not_among_the_artifacts_is_refused(artifacts: Path, into: Path, path: str) -> None:
    with pytest.raises(RegistryError):
        mlflow_sqlite.copy(artifacts, path, into)
    assert list(into.iterdir()) == []


@pytest.mark.parametrize("linked", ["model", "model/deep", "model/deep/.b"])
@pytest.mark.parametrize("path", ["model", "model/deep/.b"])
def test_no_link_is_followed(artifacts: Path, into: Path, linked: str, path: str) -> None:
    elsewhere = artifacts.parent / "elsewhere"
    (artifacts / linked).rename(elsewhere)
    (artifacts / linked).symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="a link"):
        mlflow_sqlite.copy(artifacts, path, into)
    assert list(into.iterdir()) == []


def test_folders_are_named_and_files_are_not(artifacts: Path) -> None:
    assert mlflow_sqlite.folders(artifacts, "model") == ["deep"]
    assert mlflow_sqlite.folders(artifacts, "nothing") == []
