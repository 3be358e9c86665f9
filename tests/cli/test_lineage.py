"""`tunesmith lineage` on a real registry: whole digests, what was tampered with, and little asked of the tracker."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lineages import ORIGIN
from registered_versions import NAME, SIGNING, register, stored, unprobed

from tunesmith.cli import lineage
from tunesmith.cli.main import main
from tunesmith.core import manifest
from tunesmith.core.errors import ContainerError, IntegrityError
from tunesmith.registry import ledger, promotion
from tunesmith.registry.provenance.lineage_tree import Node, Proof
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.runtime import docker

PARAMS = "registry: {experiment: arithmetic, model: calculator}\nsigning: {kind: key, private: null, trusted: []}\n"


def model(project: Path, name: str, **origin: Any) -> Path:
    folder = project / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(name.encode() * 20)
    (folder / "lineage.json").write_text(json.dumps(ORIGIN | origin))
    manifest.write(folder)
    return folder


def prepare(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS)
    registry = Registry()
    parent = model(project, "sft-lora")
    register(registry, parent)
    own = manifest.read(parent)
    digests = {"digest": own.digest, "weights_digest": own.weights_digest}
    base = {"digest": "base", "weights_digest": "w"}
    register(registry, model(project, "dpo", parents={"sft-lora": digests, "base": base}), key="k2")
    promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed, alias="champion", reason=None)


@pytest.fixture
def registry(replayed: Registry) -> Registry:
    """sft-lora, version 1, is the champion and a parent of dpo, version 2."""
    return replayed


@pytest.fixture
def project(replayed: Registry) -> Path:
    return Path.cwd()


def shown(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(main, ["lineage", "--json", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def part(node: dict[str, Any], *path: str) -> dict[str, Any]:
    for name in path:
        [node] = [child for child in node["children"] if child["name"] == name]
    return node


@pytest.mark.parametrize("which", ["sft-lora", "1", "@champion"])
def test_a_version_is_named_by_its_model_its_number_or_an_alias(registry: Registry, which: str) -> None:
    status, found = shown(which)
    assert (status, found["what"].split(",")[0]) == (0, "calculator version 1")
    assert part(found, "promotion")["what"] == "champion now"
    assert len(part(found, "promotion", "promotion")["digest"]) == 64


def test_a_parent_is_shown_with_its_own_lineage_and_the_base_is_no_parent(registry: Registry) -> None:
    _, found = shown("dpo")
    [parent] = part(found, "parent models")["children"]
    assert parent["name"] == "sft-lora"
    assert part(parent, "params")["digest"] == part(found, "params")["digest"]


def test_a_parent_whose_folder_is_gone_is_found_by_its_digest_among_versions(registry: Registry, project: Path) -> None:
    shutil.rmtree(project / "models")
    [parent] = part(shown("dpo", "--verify")[1], "parent models")["children"]
    assert parent["what"].startswith("calculator version 1")
    assert parent["check"]["mark"] == "verified"


def test_reachable_parts_are_verified_and_others_are_marked_unreachable(registry: Registry) -> None:
    status, found = shown("1", "--verify")
    assert status == 0
    marks = {name: part(found, name)["check"]["mark"] for name in ("evaluation", "promotion", "base model", "code")}
    assert found["check"]["mark"] == marks["evaluation"] == marks["promotion"] == "verified"
    assert marks["base model"] == marks["code"] == "unreachable"


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_changed_or_added_file_of_the_version_is_a_difference_and_exits_with_1(registry: Registry, file: str) -> None:
    [version] = [version for version in registry.versions(NAME) if version.number == "1"]
    (stored(registry, version) / file).write_bytes(b"tampered")
    status, found = shown("1", "--verify")
    assert (status, found["check"]["mark"]) == (1, "differs")
    assert file in found["check"]["says"]
    assert part(found, "evaluation")["check"]["mark"] == "verified"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"created": 1}', "\xff", '{"code": null, "base": []}'])
def test_a_malformed_lineage_is_an_error_that_names_it(registry: Registry, content: str) -> None:
    [version] = [version for version in registry.versions(NAME) if version.number == "1"]
    (stored(registry, version) / "lineage.json").write_text(content, "latin1")
    done = CliRunner().invoke(main, ["lineage", "1"])
    assert done.exit_code == 1
    assert "lineage" in str(done.exception)
    assert isinstance(done.exception, SystemExit)


def test_a_model_that_was_never_registered_is_shown_as_it_is_here(registry: Registry, project: Path) -> None:
    model(project, "new")
    status, found = shown("new", "--verify")
    assert (status, found["what"].split(",")[0]) == (0, "models/new")
    assert found["check"]["says"] == "2 files, every byte, in models/new"
    assert [child["name"] for child in found["children"]][-1] == "parent models"


def test_what_is_nowhere_is_an_error_that_names_what_there_is(registry: Registry) -> None:
    done = CliRunner().invoke(main, ["lineage", "../../etc"])
    assert done.exit_code == 1
    assert "registered: dpo (version 2), sft-lora (version 1)" in str(done.exception)


def test_without_verify_only_small_files_are_downloaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[str] = []
    download = Registry.download

    def counted(self: Registry, address: str, into: Path) -> Path:
        downloads.append(address.rpartition("/")[2])
        return download(self, address, into)

    monkeypatch.setattr(Registry, "download", counted)
    shown("dpo")
    assert downloads == ["lineage.json", "statement.json"]


def test_the_history_is_read_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    versions = Registry.versions

    def counted(self: Registry, model: str) -> list[Version]:
        read.append(model)
        return versions(self, model)

    monkeypatch.setattr(Registry, "versions", counted)
    assert shown("@champion")[0] == 0
    assert read.count(ledger.name_of(NAME)) == 1


def test_the_tree_shows_short_digests_and_marks(registry: Registry) -> None:
    text = CliRunner().invoke(main, ["lineage", "1", "--verify"]).stdout
    digest = registry.versions(NAME)[1].tags["tunesmith.digest"]
    assert f"sft-lora  {digest[:12]}  calculator version 1" in text
    assert digest not in text
    assert "✓ 2 files, every byte" in text
    assert "? no models/base here" in text


def test_an_image_is_looked_up_by_its_digest_in_the_engine_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr(docker, "connect", lambda: None)
    monkeypatch.setattr(docker, "resolve", lambda client, name: looked_up.append(name))
    lineage.find_image("sha256:" + "0" * 64)
    assert looked_up == ["sha256:" + "0" * 64]
    with pytest.raises(IntegrityError, match="latest is not a digest"):
        lineage.find_image("latest")


def test_an_image_cannot_be_looked_up_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ContainerError("no Docker engine answers", fix="start one")

    monkeypatch.setattr(docker, "connect", absent)
    with pytest.raises(ContainerError, match="no Docker engine answers"):
        lineage.find_image("sha256:" + "0" * 64)


def test_text_of_others_cannot_control_the_terminal() -> None:
    node = Node("a\x1b[2J", "b\r\n[red]c", "d\x1be", (), None, Proof("differs", "e\x1b]0;"))
    assert lineage.line(node).plain == "a\ufffd[2J  d\ufffde  b\ufffd\ufffd[red]c  ✗ e\ufffd]0;"
