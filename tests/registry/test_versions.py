"""A version's files are the signed ones, or fetching them is refused."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from registered_versions import NAME, SIGNING, folder, register, unprobed

from tunesmith.core.errors import IntegrityError, RegistryError, TunesmithError
from tunesmith.registry import promotion, versions
from tunesmith.registry.registered_models import Registry, Version

OFFSETS = 500


@pytest.fixture
def registry(project: Path) -> Registry:
    registry = Registry("arithmetic")
    register(registry, folder(project))
    return registry


@pytest.fixture
def artifacts(registry: Registry) -> Path:
    """The folder in which the tracker keeps version 1."""
    return place(registry, registry.versions(NAME)[0])


def place(registry: Registry, version: Version) -> Path:
    return Path(registry.client.get_run(version.run).info.artifact_uri)


@pytest.fixture
def fetch(registry: Registry, project: Path) -> Callable[[], versions.VersionFiles]:
    [version] = registry.versions(NAME)
    into = project / "into"

    def again() -> versions.VersionFiles:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        return versions.fetch(registry, NAME, version, into, SIGNING)

    return again


def test_a_fetched_version_has_the_registered_files_and_claims(
    fetch: Callable[[], versions.VersionFiles], project: Path
) -> None:
    fetched = fetch()
    assert (fetched.folder / "adapter_config.json").read_text() == '{"r": 2}'
    assert (fetched.evidence / "README.md").read_text() == "# A card"
    assert fetched.claims["outcome"] == "pass"


def test_a_changed_byte_in_any_file_is_refused(artifacts: Path, fetch: Callable[[], versions.VersionFiles]) -> None:
    files = [path for path in sorted(artifacts.rglob("*")) if path.is_file()]
    places = [(path, offset) for path in files for offset in range(path.stat().st_size)]
    refused = 0
    for path, offset in random.Random(0).sample(places, OFFSETS):
        content = path.read_bytes()
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        try:
            fetch()
        except TunesmithError:
            refused += 1
        path.write_bytes(content)
    assert refused == OFFSETS
    assert fetch()


def link(path: Path) -> None:
    """Replace a file by a link to the same bytes."""
    elsewhere = path.parent.parent.parent / path.name
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a model file added": lambda at: (at / "model" / "extra.py").write_text("import os"),
    "a hidden file added": lambda at: (at / "model" / ".gitignore").write_text("*"),
    "a folder with a file added": lambda at: ((at / "model" / "x").mkdir(), (at / "model" / "x" / "y").write_text("")),
    "a model file removed": lambda at: (at / "model" / "adapter_config.json").unlink(),
    "the manifest removed": lambda at: (at / "model" / "manifest.json").unlink(),
    "a model file renamed": lambda at: (at / "model" / "adapter_config.json").rename(at / "model" / "config.json"),
    "a model file a link": lambda at: link(at / "model" / "adapter_config.json"),
    "a link added": lambda at: (at / "model" / "more").symlink_to("/etc"),
    "the model a link": lambda at: link(at / "model"),
    "the model removed": lambda at: shutil.rmtree(at / "model"),
    "evidence added": lambda at: (evidence(at) / "more.json").write_text("{}"),
    "evidence added under a known name": lambda at: (
        (evidence(at) / "x").mkdir(),
        (evidence(at) / "x" / "statement.json").write_text("{}"),
    ),
    "a space in the manifest": lambda at: (at / "model" / "manifest.json").write_text(
        (at / "model" / "manifest.json").read_text() + " "
    ),
    "evidence removed": lambda at: (evidence(at) / "probes.json").unlink(),
    "evidence renamed": lambda at: (evidence(at) / "probes.json").rename(evidence(at) / "probe.json"),
    "evidence a link": lambda at: link(evidence(at) / "probes.json"),
    "the statement removed": lambda at: (evidence(at) / "statement.json").unlink(),
    "the signature removed": lambda at: (evidence(at) / "statement.sig").unlink(),
    "all evidence removed": lambda at: shutil.rmtree(evidence(at)),
    "a file shortened": lambda at: (at / "model" / "adapter_model.safetensors").write_bytes(b"weights"),
}


def evidence(artifacts: Path) -> Path:
    [folder] = (artifacts / "evidence").iterdir()
    return folder


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_added_removed_renamed_and_linked_files_are_refused(
    artifacts: Path, fetch: Callable[[], versions.VersionFiles], registry: Registry, change: Callable[[Path], object]
) -> None:
    change(artifacts)
    with pytest.raises((IntegrityError, RegistryError)):
        fetch()
    with pytest.raises((IntegrityError, RegistryError)):
        promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)


@pytest.mark.parametrize(
    ("tag", "value"), [("tunesmith.digest", "0" * 64), ("tunesmith.statement", "0" * 64), ("tunesmith.statement", "..")]
)
def test_tags_of_another_model_or_statement_are_refused(
    registry: Registry, project: Path, tag: str, value: str
) -> None:
    registry.client.set_model_version_tag(NAME, "1", tag, value)
    [version] = registry.versions(NAME)
    with pytest.raises(TunesmithError):
        versions.fetch(registry, NAME, version, project, SIGNING)


def test_the_validly_signed_files_of_another_version_are_refused(
    registry: Registry, project: Path, artifacts: Path
) -> None:
    register(registry, folder(project, b"other weights"), "k2", outcome="fail")
    bad = next(version for version in registry.versions(NAME) if version.number == "2")
    good = next(version for version in registry.versions(NAME) if version.number == "1")
    registry.client.set_model_version_tag(NAME, "2", "tunesmith.statement", good.tags["tunesmith.statement"])
    shutil.copytree(evidence(artifacts), place(registry, bad) / "evidence" / evidence(artifacts).name)
    [bad] = [version for version in registry.versions(NAME) if version.number == "2"]
    with pytest.raises(IntegrityError, match="another model"):
        versions.fetch(registry, NAME, bad, project, SIGNING)


def test_a_champion_is_looked_up_in_the_history(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no champion yet"):
        versions.choose(registry, NAME, "@champion", SIGNING)
    promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    assert versions.choose(registry, NAME, "@champion", SIGNING).number == "1"
