"""A version's files are the signed ones, or fetching them is refused."""

import json
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from registered_versions import NAME, SIGNING, fetch_version, folder, register, unprobed

from tunesmith.cli.main import main
from tunesmith.core.errors import IntegrityError, RegistryError, TunesmithError
from tunesmith.registry import promotion, signing, versions
from tunesmith.registry.registered_models import Registry, Version

OFFSETS = 50


@dataclass(frozen=True)
class Stored:
    """The folders in which the tracker keeps a version: its logged model, and its evidence."""

    logged: Path
    evidence: Path

    @property
    def model(self) -> Path:
        return self.logged / "model"


def prepare(project: Path) -> None:
    register(Registry(), folder(project))


@pytest.fixture
def registry(replayed: Registry) -> Registry:
    """A registry with version 1."""
    return replayed


@pytest.fixture
def project(replayed: Registry) -> Path:
    return Path.cwd()


@pytest.fixture
def stored(registry: Registry) -> Stored:
    """Version 1."""
    return find(registry, registry.versions(NAME)[0])


def find(registry: Registry, version: Version) -> Stored:
    [evidence] = Path(registry.artifacts(version.run), "evidence").iterdir()
    return Stored(Path(version.source), evidence)


@pytest.fixture
def fetch(registry: Registry, project: Path) -> Callable[[], versions.VersionFiles]:
    [version] = registry.versions(NAME)
    into = project / "into"

    def again() -> versions.VersionFiles:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        return fetch_version(registry, version, into)

    return again


def test_a_fetched_version_has_the_registered_files_and_claims(
    fetch: Callable[[], versions.VersionFiles], project: Path
) -> None:
    fetched = fetch()
    assert (fetched.folder / "adapter_config.json").read_text() == '{"r": 2}'
    assert (fetched.evidence / "README.md").read_text() == "# A card"
    assert fetched.claims["outcome"] == "pass"


def test_a_changed_byte_in_any_file_is_refused(stored: Stored, fetch: Callable[[], versions.VersionFiles]) -> None:
    files = [path for part in (stored.logged, stored.evidence) for path in sorted(part.rglob("*")) if path.is_file()]
    everywhere = [(path, offset) for path in files for offset in range(path.stat().st_size)]
    places = [(path, 0) for path in files] + random.Random(0).sample(everywhere, OFFSETS)
    assert len(files) >= 10
    for path, offset in places:
        content = path.read_bytes()
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        with pytest.raises(TunesmithError):
            fetch()
        path.write_bytes(content)
    assert fetch()


def link(path: Path) -> None:
    """Put the same bytes behind a link."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def bind(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(os.path.relpath(path))


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 32 << 20)


CHANGES: dict[str, Callable[[Stored], object]] = {
    "a model file added": lambda at: (at.model / "extra.py").write_text("import os"),
    "a hidden file added": lambda at: (at.model / ".gitignore").write_text("*"),
    "a folder with a file added": lambda at: ((at.model / "x").mkdir(), (at.model / "x" / "y").write_text("")),
    "a model file removed": lambda at: (at.model / "adapter_config.json").unlink(),
    "the manifest removed": lambda at: (at.model / "manifest.json").unlink(),
    "a model file renamed": lambda at: (at.model / "adapter_config.json").rename(at.model / "config.json"),
    "a linked folder added": lambda at: (at.model / "more").symlink_to(at.evidence),
    "the weights a link": lambda at: link(at.model / "adapter_model.safetensors"),
    "the model folder a link": lambda at: link(at.model),
    "the evidence a link": lambda at: link(at.evidence / "probes.json"),
    "a file renamed in case alone": lambda at: (at.model / "adapter_config.json").rename(
        at.model / "Adapter_config.json"
    ),
    "a name that is no UTF-8": lambda at: Path(os.fsdecode(bytes(at.model) + b"/\xff\xfe")).write_text("x"),
    "a name that is no UTF-8 among the evidence": lambda at: Path(
        os.fsdecode(bytes(at.evidence) + b"/\xff")
    ).write_text("x"),
    "a name that controls the terminal": lambda at: (at.model / "\x1b[2J\n.txt").write_text("x"),
    "a socket added": lambda at: bind(at.model / "socket"),
    "a sparse file among the evidence": lambda at: sparse(at.evidence / "big"),
    "the weights sparse and longer": lambda at: os.truncate(at.model / "adapter_model.safetensors", 1 << 20),
    "the statement a folder": lambda at: (
        (at.evidence / "statement.json").unlink(),
        (at.evidence / "statement.json").mkdir(),
    ),
    "a second list of files in the manifest": lambda at: (at.model / "manifest.json").write_text(
        (at.model / "manifest.json").read_text().replace('{\n "files"', '{"files":{},\n "files"')
    ),
    "a pipe added": lambda at: os.mkfifo(at.model / "pipe"),
    "a pipe among the evidence": lambda at: os.mkfifo(at.evidence / "pipe"),
    "the manifest a folder": lambda at: ((at.model / "manifest.json").unlink(), (at.model / "manifest.json").mkdir()),
    "the manifest nested without end": lambda at: (at.model / "manifest.json").write_text('{"files": ' + "[" * 90_000),
    "the model removed": lambda at: shutil.rmtree(at.model),
    "code added around the model": lambda at: (at.logged / "loader.py").write_text("import os"),
    "MLmodel removed": lambda at: (at.logged / "MLmodel").unlink(),
    "the logged model removed": lambda at: shutil.rmtree(at.logged),
    "evidence added": lambda at: (at.evidence / "more.json").write_text("{}"),
    "evidence added under a known name": lambda at: (
        (at.evidence / "x").mkdir(),
        (at.evidence / "x" / "statement.json").write_text("{}"),
    ),
    "a space in the manifest": lambda at: (at.model / "manifest.json").write_text(
        (at.model / "manifest.json").read_text() + " "
    ),
    "evidence removed": lambda at: (at.evidence / "probes.json").unlink(),
    "evidence renamed": lambda at: (at.evidence / "probes.json").rename(at.evidence / "probe.json"),
    "the statement removed": lambda at: (at.evidence / "statement.json").unlink(),
    "the signature removed": lambda at: (at.evidence / "statement.sig").unlink(),
    "all evidence removed": lambda at: shutil.rmtree(at.evidence),
    "a file shortened": lambda at: (at.model / "adapter_model.safetensors").write_bytes(b"weights"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_added_removed_and_renamed_files_are_refused(
    stored: Stored, fetch: Callable[[], versions.VersionFiles], registry: Registry, change: Callable[[Stored], object]
) -> None:
    change(stored)
    with pytest.raises((IntegrityError, RegistryError)):
        fetch()
    with pytest.raises((IntegrityError, RegistryError)):
        promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)


def test_files_that_still_arrive_do_not_hide_why_a_download_failed(
    fetch: Callable[[], versions.VersionFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    download, writers, stopped = mlflow.artifacts.download_artifacts, list[threading.Thread](), threading.Event()

    def fail_early(address: str, *, dst_path: str, **settings: str) -> str:
        if "evidence" in address:
            return str(download(address, dst_path=dst_path, **settings))

        def write(written: int = 0) -> None:
            while not stopped.is_set():
                folder, written = Path(dst_path, "artifacts", "model"), written + 1
                with suppress(OSError):  # the folder is being removed meanwhile
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / str(written)).touch()

        writers.append(threading.Thread(target=write))  # as MLflow's own, which go on
        writers[0].start()
        while not Path(dst_path, "artifacts", "model", "1").exists():
            time.sleep(0.001)
        raise mlflow.MlflowException("no more files can be listed")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fail_early)
    try:
        with pytest.raises(RegistryError, match="no more files can be listed"):
            fetch()
    finally:
        stopped.set()
        writers[0].join()


SAME: dict[str, Callable[[Stored], object]] = {
    "another name of a file": lambda at: os.link(at.model / "adapter_model.safetensors", at.logged.parent / "twin"),
    "an empty folder": lambda at: (at.model / "empty").mkdir(),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_changes_no_byte_is_no_change(
    stored: Stored, registry: Registry, fetch: Callable[[], versions.VersionFiles], change: Callable[[Stored], object]
) -> None:
    change(stored)
    for tag in registry.client.get_run(registry.versions(NAME)[0].run).data.tags:
        registry.client.set_tag(registry.versions(NAME)[0].run, tag, "rewritten")
    assert fetch()
    assert promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed).version == "1"


def test_a_version_of_an_earlier_release_is_fetched_and_checked(registry: Registry, project: Path) -> None:
    """Its model folder was an artifact of its run, without a logged model around it."""
    run = registry.versions(NAME)[0].run
    path = folder(project)
    claims = json.loads((find(registry, registry.versions(NAME)[0]).evidence / "statement.json").read_text())
    del claims["mlflow_files"]
    claims["sequence"] += 1
    statement = versions.Statement(json.dumps(claims), signing.sign_text(json.dumps(claims), SIGNING))
    own = project / "evidence" / statement.id
    shutil.copytree(find(registry, registry.versions(NAME)[0]).evidence, own)
    (own / "statement.json").write_text(statement.text)
    (own / "statement.sig").write_text(statement.signature)
    registry.upload(run, project / "evidence", "evidence")
    registry.upload(run, path, "model")
    tags = registry.versions(NAME)[0].tags | {versions.STATEMENT_TAG: statement.id}
    registry.client.create_model_version(NAME, f"{registry.artifacts(run)}/model", run, tags)
    earlier = registry.versions(NAME)[0]
    assert fetch_version(registry, earlier, project / "into").digest == claims["digest"]
    (Path(earlier.source) / "adapter_config.json").write_text("{}")
    with pytest.raises(IntegrityError, match="adapter_config"):
        fetch_version(registry, earlier, project / "into")


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("tunesmith.digest", "0" * 64),
        ("tunesmith.statement", "0" * 64),
        ("tunesmith.statement", ".."),
        ("tunesmith.statement", "."),
        ("tunesmith.statement", "../model"),
        ("tunesmith.statement", "/etc"),
        ("tunesmith.statement", "a/../../../../etc"),
        ("tunesmith.statement", "a\0b"),
        ("tunesmith.statement", "\xe9" * 200),
        ("tunesmith.statement", "x" * 3000),
        ("tunesmith.statement", ""),
        ("tunesmith.digest", "\x1b]0;pwn\x07"),
        ("tunesmith.model", "sft-full"),
        ("tunesmith.model", "\x1b[31mpwn"),
    ],
)
def test_tags_of_another_model_or_statement_are_refused(
    registry: Registry, project: Path, tag: str, value: str
) -> None:
    registry.client.set_model_version_tag(NAME, "1", tag, value)
    [version] = registry.versions(NAME)
    with pytest.raises(TunesmithError) as caught:
        fetch_version(registry, version, project)
    assert "\x1b" not in str(caught.value)
    with pytest.raises(TunesmithError):
        promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    shown = CliRunner().invoke(main, ["lineage", "1"])
    assert isinstance(shown.exception, SystemExit | None)
    assert "\x1b" not in shown.output + str(shown.exception)


def test_the_validly_signed_files_of_another_version_are_refused(
    registry: Registry, project: Path, stored: Stored
) -> None:
    register(registry, folder(project, b"other weights"), "k2", outcome="fail")
    bad = next(version for version in registry.versions(NAME) if version.number == "2")
    good = next(version for version in registry.versions(NAME) if version.number == "1")
    registry.client.set_model_version_tag(NAME, "2", "tunesmith.statement", good.tags["tunesmith.statement"])
    shutil.copytree(stored.evidence, find(registry, bad).evidence.parent / stored.evidence.name)
    [bad] = [version for version in registry.versions(NAME) if version.number == "2"]
    with pytest.raises(IntegrityError, match="another model"):
        fetch_version(registry, bad, project)


def test_a_champion_is_looked_up_in_the_history(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no champion yet"):
        versions.choose(registry, NAME, "@champion", SIGNING)
    promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    assert versions.choose(registry, NAME, "@champion", SIGNING).number == "1"


def test_a_champion_is_the_version_that_was_promoted_and_none_that_got_its_number(
    registry: Registry, project: Path
) -> None:
    promotion.promote(registry, NAME, "1", signing=SIGNING, probe=unprobed)
    registry.client.delete_registered_model(NAME)
    assert register(registry, folder(project, b"other" * 50), "k2") == "1"
    with pytest.raises(IntegrityError, match="it was promoted with digest"):
        versions.choose(registry, NAME, "@champion", SIGNING)


@pytest.mark.parametrize("model", ["sft\u2011lora", "1"])
def test_a_name_means_the_model_of_exactly_that_name_and_a_number_the_version(
    registry: Registry, project: Path, model: str
) -> None:
    assert register(registry, folder(project, b"other" * 50, model), "k2") == "2"
    for which in ("sft-lora", "1"):
        assert versions.choose(registry, NAME, which, SIGNING).number == "1"


def test_what_a_tag_holds_cannot_control_the_terminal(registry: Registry) -> None:
    registry.client.set_model_version_tag(NAME, "1", "tunesmith.model", "\x1b[2J\u202epwn\n")
    with pytest.raises(RegistryError) as caught:
        versions.choose(registry, NAME, "dpo", SIGNING)
    assert "\ufffd[2J\ufffdpwn" in str(caught.value)
