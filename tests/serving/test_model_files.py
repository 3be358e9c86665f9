"""The full weights under an adapter are found by their digest, wherever they are."""

import shutil
import subprocess
import sys
from pathlib import Path

import adapters
import pytest
from fake_models import edit_params
from registered_versions import NAME, SIGNING, register

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import IntegrityError, ServingError
from tunesmith.models import base_sources
from tunesmith.models.base_sources import Folder
from tunesmith.registry.registered_models import Registry
from tunesmith.serving import model_files


@pytest.fixture
def models(tiny_base: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
    shutil.copytree(tiny_base, project / "models" / "base")
    return project / "models"


@pytest.fixture
def fetched(models: Path, project: Path) -> Path:
    """An adapter on the base, outside of models/."""
    return adapters.write(project / "fetched", models / "base")


def pin_base(project: Path, fetched: Path, source: Folder) -> None:
    """Record ``source`` as the base that the adapter was trained on, and pin it in params.yaml."""
    base = lineage.read(fetched)["base"]
    adapters.edit(fetched, lineage.NAME, base=base | {"source": base_sources.identify(source)})
    edit_params(project, base_model=source.model_dump(mode="json"))


def folder_at(path: Path) -> Folder:
    return Folder(kind="folder", path=path, sha256=manifest.folder_digest(path), chat_template=None)


def test_full_weights_need_no_other_weights(models: Path) -> None:
    assert model_files.full_weights(models / "base") == models / "base"


def test_the_base_is_found_whatever_the_name_of_its_folder(models: Path, fetched: Path) -> None:
    (models / "base").rename(models / "another")
    assert model_files.full_weights(fetched) == Path("models/another")


@pytest.mark.parametrize("spoiled", ["changed", "missing"])
def test_a_changed_or_missing_base_is_fetched_from_its_source_once(
    models: Path, fetched: Path, tiny_folder: Path, project: Path, spoiled: str
) -> None:
    pin_base(project, fetched, folder_at(tiny_folder))
    digest = manifest.read(models / "base").digest
    if spoiled == "missing":
        shutil.rmtree(models / "base")
    else:
        (models / "base" / "config.json").write_text("{}")
    weights = model_files.full_weights(fetched)
    assert weights == project / "cache" / "tunesmith" / "bases" / digest
    assert manifest.verify(weights).digest == digest
    edit_params(project, base_model=None)
    assert model_files.full_weights(fetched) == weights


def test_a_base_is_fetched_with_the_template_that_the_model_was_trained_with(
    models: Path, fetched: Path, tiny_folder: Path, project: Path
) -> None:
    source = folder_at(tiny_folder)
    pin_base(project, fetched, source.model_copy(update={"chat_template_kwargs": {"message": "set since"}}))
    shutil.rmtree(models / "base")
    weights = model_files.full_weights(fetched)
    assert manifest.read(weights).digest == lineage.read(fetched)["base"]["digest"]


def test_a_base_other_than_the_one_trained_on_is_refused(
    models: Path, fetched: Path, project: Path, tiny_folder: Path
) -> None:
    other = project / "other"
    shutil.copytree(tiny_folder, other)
    (other / "generation_config.json").write_text('{"eos_token_id": 2, "repetition_penalty": 1.5}')
    edit_params(project, base_model=folder_at(other).model_dump(mode="json"))
    shutil.rmtree(models / "base")
    with pytest.raises(ServingError, match=r"params\.yaml pins another: folder tiny"):
        model_files.full_weights(fetched)
    pin_base(project, fetched, folder_at(other))
    with pytest.raises(IntegrityError, match="which the model was trained on"):
        model_files.full_weights(fetched)


def test_an_adapter_on_trained_weights_gets_them_from_the_registry(models: Path, project: Path) -> None:
    full = adapters.write_full(models / "sft-full", models / "base")
    adapter = adapters.write(project / "fetched", models / "base", on=full)
    edit_params(project, signing=SIGNING.model_dump(mode="json"))
    assert model_files.full_weights(adapter) == Path("models/sft-full")
    registry = Registry()
    digest = manifest.read(full).digest
    full.rename(project / "away")
    with pytest.raises(ServingError, match=f"neither in models/ nor registered as {NAME}"):
        model_files.full_weights(adapter)
    register(registry, project / "away")
    weights = model_files.full_weights(adapter)
    assert weights == project / "cache" / "tunesmith" / "versions" / digest / "model"
    subprocess.run(
        [sys.executable, "-c", "from tunesmith.serving import model_cache; model_cache.prune([])"], check=True
    )
    assert manifest.verify(weights).digest == digest, "another process must not remove them"
