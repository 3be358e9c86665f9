"""An experiment in a project's own database, and the place of its artifacts."""

import shutil
from pathlib import Path

import pytest
from registered_versions import NAME, SIGNING, fetch_version, folder, register

from tunesmith.core.errors import RegistryError
from tunesmith.registry import versions
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment


@pytest.mark.parametrize("name", ["plain", "with space", "c#1", "a;b?", "ü", "100%"])
def test_a_model_is_registered_in_a_project_folder_of_any_name(
    schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shutil.copy(schema, tmp_path / "mlflow.db")
    place = tmp_path / name
    place.mkdir()
    monkeypatch.chdir(place)
    registry = Registry()
    number = register(registry, folder(place))
    version = versions.choose(registry, NAME, number, SIGNING)
    assert fetch_version(registry, version, place / "into")
    assert (place / "mlartifacts").is_dir()


def test_a_moved_project_says_how_its_artifacts_are_found_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = project / "first"
    (first / "models").mkdir(parents=True)
    monkeypatch.chdir(first)
    Experiment("arithmetic")
    number = register(Registry(), folder(first))
    moved = first.rename(project / "moved")
    monkeypatch.chdir(moved)
    with pytest.raises(RegistryError, match=f"moved or copied from {first}\n.*`ln -s {moved} {first}`"):
        Experiment("arithmetic")
    first.symlink_to(moved)
    assert Experiment("arithmetic").id
    registry = Registry()
    version = versions.choose(registry, NAME, number, SIGNING)
    assert fetch_version(registry, version, project / "into")
