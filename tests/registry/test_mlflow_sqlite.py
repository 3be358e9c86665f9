"""A project's own database, moved, copied, and read without MLflow, which must come to the same."""

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
from versions_made import NAME, SIGNING, folder, register, unprobed

from tunesmith.core.errors import RegistryError
from tunesmith.registry import ledger, mlflow_sqlite, promotion, versions
from tunesmith.registry.registered_models import Registry


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
def asked(registry: Registry) -> Registry:
    """The same, all of it asked of MLflow."""
    asked = Registry("arithmetic")
    asked.local = None
    return asked


@pytest.mark.parametrize("model", [NAME, ledger.name_of(NAME), "bare", NAME.upper()])
def test_what_is_read_of_a_model_is_what_mlflow_answers(registry: Registry, asked: Registry, model: str) -> None:
    assert registry.local is not None
    assert registry.versions(model) == asked.versions(model)
    assert registry.tags(model) == asked.tags(model)
    for alias in ("champion", "second", "CHAMPION"):
        assert registry.alias(model, alias) == asked.alias(model, alias)


def test_what_is_read_is_not_empty(registry: Registry) -> None:
    assert [version.number for version in registry.versions(NAME)] == ["4", "3", "1"]
    assert registry.alias(NAME, "champion") == "1"
    assert (registry.tags(NAME), registry.tags("bare"), registry.tags("none")) == ({"owner": "ada"}, {}, None)


def test_artifacts_are_where_mlflow_keeps_them(registry: Registry, asked: Registry) -> None:
    run = registry.versions(NAME)[-1].run
    assert registry.artifacts(run) == asked.artifacts(run)
    with pytest.raises(RegistryError, match="has no run nothing"):
        registry.artifacts("nothing")


def test_the_tables_are_those_of_the_installed_mlflow() -> None:
    assert _get_latest_schema_revision() == mlflow_sqlite.SCHEMA


def test_tables_of_another_release_are_left_to_mlflow(project: Path) -> None:
    uri = f"sqlite:///{project}/mlflow.db"
    assert mlflow_sqlite.readable(uri) is not None
    database = sqlite3.connect(project / "mlflow.db")
    database.execute("UPDATE alembic_version SET version_num = 'bd07f7e963c5'")
    database.commit()
    database.close()
    assert mlflow_sqlite.readable(uri) is None


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100], ids=["absent", "empty", "of something else"])
def test_what_is_no_database_is_left_to_mlflow(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.db").write_bytes(content)
    assert mlflow_sqlite.readable(f"sqlite:///{tmp_path}/x.db") is None


@pytest.mark.parametrize("command", ["promoting.history()", "pedigree.run('@champion', verify=False, as_json=False)"])
def test_who_only_asks_does_not_wait_for_mlflow(registry: Registry, project: Path, command: str) -> None:
    """Nor for anything else that takes long to import."""
    model = Path(registry.artifacts(registry.versions(NAME)[-1].run), "model")
    (model / "lineage.json").write_text(json.dumps(ORIGIN))
    named = {"registry": {"experiment": "arithmetic", "model": NAME}, "signing": SIGNING.model_dump(mode="json")}
    (project / "params.yaml").write_text(yaml.safe_dump(named))
    slow = {"mlflow", "sqlalchemy", "torch", "transformers", "pandas", "scipy", "dvc"}
    program = f"import sys; from tunesmith import pedigree, promoting; {command}; print({slow} & set(sys.modules))"
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
    """Run a statement on the registry in another folder: MLflow keeps the places of artifacts for a process's life."""
    known = f"registry = Registry('arithmetic'); versions = {{v.number: v for v in registry.versions({NAME!r})}}"
    program = (
        f"from pathlib import Path; from tunesmith.registry.registered_models import Registry; {known}; {statement}"
    )
    subprocess.run([sys.executable, "-c", program], cwd=project, check=True)
