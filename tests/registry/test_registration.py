"""Registering is atomic and idempotent, on a real SQLite registry."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kill_points import kill_at_every_step
from lineages import ORIGIN
from mlflow.utils import file_utils
from registered_versions import NAME, SIGNING, fetch_version, folder, overwrite, register

from tunesmith.core.errors import IntegrityError
from tunesmith.registry import ledger, registration, versions
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.trust import ownership


@pytest.fixture
def registry(project: Path) -> Registry:
    return Registry()


def test_registering_again_creates_no_second_version(registry: Registry, project: Path) -> None:
    path = folder(project)
    assert [register(registry, path), register(registry, path), register(registry, path, "k2")] == ["1", "1", "2"]


def test_registering_the_same_again_keeps_the_statement(registry: Registry, project: Path) -> None:
    path = folder(project)
    register(registry, path)
    before = registry.versions(NAME)
    register(registry, path)
    assert registry.versions(NAME) == before


def test_a_deleted_registered_model_is_created_again(registry: Registry, project: Path) -> None:
    path = folder(project)
    register(registry, path)
    registry.client.delete_registered_model(NAME)
    assert register(registry, path, "k2") == "1"


def test_a_changed_folder_is_not_registered(registry: Registry, project: Path) -> None:
    path = folder(project)
    (path / "adapter_model.safetensors").write_bytes(b"Weights")
    with pytest.raises(IntegrityError):
        register(registry, path)
    assert registry.versions(NAME) == []


def test_folders_that_another_process_makes_first_are_used(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[str]()

    def make_late(path: str) -> None:
        Path(path).mkdir()
        made.append(path)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    monkeypatch.setattr(file_utils, "os", SimpleNamespace(**vars(os) | {"mkdir": make_late}))
    register(registry, folder(project))
    assert made
    assert fetch_version(registry, registry.versions(NAME)[0], project / "fetched").signer


def test_files_that_another_process_is_writing_are_read_again(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, reads = versions.fetch, list[str]()
    monkeypatch.setattr(registration, "REREAD_PAUSES", (0.0, 0.0))

    def fetch(registry: Registry, name: str, version: versions.Version, *rest: Any) -> versions.VersionFiles:
        reads.append(version.number)
        stored = Path(version.source) / "model" / "manifest.json"
        text = stored.read_text()
        if len(reads) == 1:
            stored.write_text("")  # as where a copy over it has begun
        try:
            return whole(registry, name, version, *rest)
        finally:
            stored.write_text(text)

    monkeypatch.setattr(versions, "fetch", fetch)
    assert register(registry, folder(project)) == "1"
    assert reads == ["to be made", "to be made"]


def test_an_upload_that_stays_damaged_is_not_registered(
    registry: Registry, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "REREAD_PAUSES", (0.0, 0.0))
    upload = registry.upload_model

    def damage(logged: Any, path: Path, into: str | None = None) -> None:
        upload(logged, path, into) if into else upload(logged, path)
        for stored in Path(logged.address).rglob("adapter_model.safetensors"):
            stored.write_bytes(b"other weights")

    monkeypatch.setattr(registry, "upload_model", damage)
    with pytest.raises(IntegrityError):
        register(registry, folder(project))
    assert registry.versions(NAME) == []


def test_the_last_evaluation_of_a_model_counts(registry: Registry, project: Path) -> None:
    path = folder(project)
    for outcome in ("pass", "fail"):
        register(registry, path, outcome=outcome)
        [version] = registry.versions(NAME)
        fetched = fetch_version(registry, version, project / outcome)
        assert fetched.claims["outcome"] == outcome


def test_an_earlier_evaluation_cannot_be_put_back(registry: Registry, project: Path) -> None:
    path = folder(project)
    register(registry, path, outcome="pass")
    [passed] = registry.versions(NAME)
    register(registry, path, outcome="fail")
    registry.client.set_model_version_tag(NAME, "1", versions.STATEMENT_TAG, passed.tags[versions.STATEMENT_TAG])
    [version] = registry.versions(NAME)
    with pytest.raises(IntegrityError, match="evaluated again"):
        fetch_version(registry, version, project / "into")


def test_registering_again_restores_files_overwritten_in_the_tracker(registry: Registry, project: Path) -> None:
    path = folder(project)
    register(registry, path)
    other = shutil.copytree(path, project / "other")
    (other / "adapter_model.safetensors").write_bytes(b"other weights")
    [version] = registry.versions(NAME)
    overwrite(registry, version, other)
    with pytest.raises(IntegrityError, match="changed"):
        fetch_version(registry, version, project / "a")
    assert register(registry, path) == "1"
    assert fetch_version(registry, registry.versions(NAME)[0], project / "b").signer


@pytest.mark.parametrize("evaluated_again", [False, True])
def test_a_registration_killed_at_any_step_leaves_no_partial_version_and_completes_when_run_again(
    project: Path, schema: Path, evaluated_again: bool
) -> None:
    def start(place: Path) -> Callable[[Any], None]:
        path = folder(place)
        if evaluated_again:
            register(Registry(), path, outcome="undecided")
        return lambda registry: register(registry, path)

    def check(place: Path, registry: Registry, completed: bool) -> None:
        registered = registry.versions(NAME)
        assert len(registered) == 1 if completed else len(registered) <= 1
        experiment = registry.client.get_experiment_by_name("arithmetic").experiment_id
        logged = [model.artifact_location for model in registry.client.search_logged_models([experiment])]
        assert len(logged) <= 1
        assert not completed or logged == [registered[0].source]
        chain = ledger.read(registry, NAME, SIGNING)
        assert (chain.faults, chain.moves) == ([], [])
        recorded = [entry.statement for entry in chain.entries]
        assert len(recorded) == len(set(recorded)) <= 1 + evaluated_again
        assert not completed or recorded[-1] == registered[0].tags[versions.STATEMENT_TAG]
        assert not registered or ownership.check(registry, ledger.name_of(NAME), SIGNING)
        for version in registered:
            try:
                fetch_version(registry, version, place / f"fetched-{completed}")
            except IntegrityError as error:  # signed, but the tag does not name it yet
                if completed or not evaluated_again or "evaluated again" not in error.reason:
                    raise

    assert kill_at_every_step(project, schema, start, check) >= 15


def test_a_description_begins_in_plain_text_and_names_base_data_and_uncommitted_changes() -> None:
    origin: dict[str, Any] = ORIGIN | {"code": {"commit": "a" * 40, "clean": False}}
    text = registration.description("sft-lora", origin, "sft-lora is better.", "proven")
    assert text.startswith("sft-lora is better.\n\n**Gate:** proven\n\n**Made from** `demo==1`, commit `aaaaaaaaaaaa`")
    assert "- 1384 rows of `data/ready/demo/train.jsonl`\n" in text
    assert "uncommitted changes" in text
