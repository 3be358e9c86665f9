"""A project's own database and artifacts: read without MLflow as MLflow reads them, also after a move or a copy."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lineages import ORIGIN
from mlflow.store.db.utils import _get_latest_schema_revision
from registered_versions import NAME, SIGNING, folder, register, unprobed

from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.registry import ledger, mlflow_sqlite, promotion, versions
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment


@pytest.fixture
def registry(project: Path) -> Registry:
    """Versions 1 and 3, of which 1 is the champion; 2 was removed; 4 was made by hand, of no run and without tags."""
    registry = Registry("arithmetic")
    for number in range(3):
        register(registry, folder(project, b"%d" % number), f"k{number}")
    promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    registry.move_alias(NAME, "second", "2")
    registry.remove_version(NAME, "2")
    registry.client.create_model_version(NAME, "somewhere")
    registry.tag(NAME, "owner", "ada")
    registry.create("bare", {})
    return registry


@pytest.fixture
def by_mlflow(registry: Registry) -> Registry:
    """The same registry, read through MLflow's client."""
    by_mlflow = Registry("arithmetic")
    by_mlflow.local = None
    return by_mlflow


@pytest.mark.parametrize("model", [NAME, ledger.name_of(NAME), "bare", NAME.upper()])
def test_versions_tags_and_aliases_are_those_that_mlflow_returns(
    registry: Registry, by_mlflow: Registry, model: str
) -> None:
    assert registry.local is not None
    assert registry.versions(model) == by_mlflow.versions(model)
    assert registry.tags(model) == by_mlflow.tags(model)
    for alias in ("champion", "second", "CHAMPION"):
        assert registry.alias(model, alias) == by_mlflow.alias(model, alias)


def test_versions_aliases_and_tags_are_read(registry: Registry) -> None:
    assert [version.number for version in registry.versions(NAME)] == ["4", "3", "1"]
    assert registry.alias(NAME, "champion") == "1"
    assert (registry.tags(NAME), registry.tags("bare"), registry.tags("none")) == ({"owner": "ada"}, {}, None)


def test_artifacts_are_where_mlflow_keeps_them(registry: Registry, by_mlflow: Registry) -> None:
    run = registry.versions(NAME)[-1].run
    assert registry.artifacts(run) == by_mlflow.artifacts(run)
    with pytest.raises(RegistryError, match="has no run nothing"):
        registry.artifacts("nothing")


def test_the_schema_revision_is_that_of_the_installed_mlflow() -> None:
    assert _get_latest_schema_revision() == mlflow_sqlite.SCHEMA_REVISION


def test_tables_of_another_release_are_left_to_mlflow(project: Path) -> None:
    uri = f"sqlite:///{project}/mlflow.db"
    assert mlflow_sqlite.open_known_schema(uri) is not None
    database = sqlite3.connect(project / "mlflow.db")
    database.execute("UPDATE alembic_version SET version_num = 'bd07f7e963c5'")
    database.commit()
    database.close()
    assert mlflow_sqlite.open_known_schema(uri) is None


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100], ids=["absent", "empty", "of something else"])
def test_a_file_that_is_not_a_database_is_left_to_mlflow(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.db").write_bytes(content)
    assert mlflow_sqlite.open_known_schema(f"sqlite:///{tmp_path}/x.db") is None


@pytest.mark.parametrize("command", ["promote.history()", "lineage.run('@champion', verify=False, as_json=False)"])
def test_commands_that_only_read_import_neither_mlflow_nor_another_slow_library(
    registry: Registry, project: Path, command: str
) -> None:
    model = Path(registry.artifacts(registry.versions(NAME)[-1].run), "model")
    (model / "lineage.json").write_text(json.dumps(ORIGIN))
    params = {"registry": {"experiment": "arithmetic", "model": NAME}, "signing": SIGNING.model_dump(mode="json")}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    slow = {"mlflow", "sqlalchemy", "torch", "transformers", "pandas", "scipy", "dvc"}
    program = f"import sys; from tunesmith.cli import lineage, promote; {command}; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "version 1" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_moved_project_finds_its_artifacts(project: Path, tmp_path: Path) -> None:
    number = register(Registry("arithmetic"), folder(project))
    there = tmp_path.with_name(f"{tmp_path.name}-moved to")
    shutil.move(tmp_path, there)
    elsewhere(there, f"print(next(registry.download(versions[{number!r}].run, 'model', Path('.')).iterdir()))")
    assert (there / "model" / "adapter_model.safetensors").read_bytes() == b"weights" * 50
    assert not tmp_path.exists()


def test_a_copied_project_leaves_the_artifacts_of_the_first_alone(project: Path, tmp_path: Path) -> None:
    registry = Registry("arithmetic")
    number = register(registry, folder(project))
    copy = tmp_path.with_name(f"{tmp_path.name}-copy")
    shutil.copytree(tmp_path, copy)
    (copy / "adapter_model.safetensors").write_bytes(b"other")
    elsewhere(copy, f"registry.upload(versions[{number!r}].run, Path('adapter_model.safetensors'), 'model')")
    version = versions.choose(registry, NAME, number, SIGNING)
    assert versions.fetch(registry, NAME, version, project, SIGNING).version == version


def elsewhere(project: Path, statement: str) -> None:
    """Run a statement on the registry of another folder, in a new process: MLflow caches artifact paths in one."""
    setup = f"registry = Registry('arithmetic'); versions = {{v.number: v for v in registry.versions({NAME!r})}}"
    program = (
        f"from pathlib import Path; from tunesmith.registry.registered_models import Registry; {setup}; {statement}"
    )
    subprocess.run([sys.executable, "-c", program], cwd=project, check=True)


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """The artifacts of a run, one model, with a secret file beside the folder."""
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
def test_copies_are_those_that_mlflow_makes_in_a_project_folder_of_any_name(
    schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
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


def test_only_a_file_address_is_a_local_folder() -> None:
    assert mlflow_sqlite.local_folder("s3://bucket/run") is None
    assert mlflow_sqlite.local_folder("mlflow-artifacts:/0/run") is None
    assert mlflow_sqlite.local_folder("file:///a%20b/run") == Path("/a b/run")


def test_a_copy_replaces_the_files_that_are_there(artifacts: Path, into: Path) -> None:
    (into / "model").mkdir()
    (into / "model" / "a").write_text("old")
    assert tree(mlflow_sqlite.copy_artifact(artifacts, "model", into)) == {"a": "a", "deep/.b": "b"}


@pytest.mark.parametrize("path", ["../secret", "..", "model/../../secret", "/etc/hostname", "nothing"])
def test_a_path_outside_the_artifacts_is_refused(artifacts: Path, into: Path, path: str) -> None:
    with pytest.raises(RegistryError):
        mlflow_sqlite.copy_artifact(artifacts, path, into)
    assert list(into.iterdir()) == []


@pytest.mark.parametrize("linked", ["model", "model/deep", "model/deep/.b"])
@pytest.mark.parametrize("path", ["model", "model/deep/.b"])
def test_no_link_is_followed(artifacts: Path, into: Path, linked: str, path: str) -> None:
    elsewhere = artifacts.parent / "elsewhere"
    (artifacts / linked).rename(elsewhere)
    (artifacts / linked).symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="a link"):
        mlflow_sqlite.copy_artifact(artifacts, path, into)
    assert list(into.iterdir()) == []


def test_folders_are_listed_and_files_are_not(artifacts: Path) -> None:
    assert mlflow_sqlite.list_folders(artifacts, "model") == ["deep"]
    assert mlflow_sqlite.list_folders(artifacts, "nothing") == []
