"""Cached versions stay while they are needed or held, and nothing but versions is removed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.core import lineage, manifest
from tunesmith.serving import model_cache


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def put(content: str, on: str | None = None, evidence: str = "evidence") -> str:
    """Cache a version as it is fetched, and return its digest. on: the digest of the full weights under an adapter."""
    work = model_cache.folder() / "versions" / "new"
    (model := work / "model").mkdir(parents=True)
    (model / "config.json").write_text(content)
    if on:
        (model / "adapter_config.json").write_text("{}")
        (model / lineage.NAME).write_text(json.dumps({"on": {"digest": on}}))
    digest = manifest.write(model).digest
    (work / evidence).mkdir()
    (work / evidence / "statement.json").write_text("{}")
    work.rename(model_cache.version_folder(digest))
    return digest


def cached() -> set[str]:
    """Return the names of the folders of versions in the cache."""
    return {place.name for place in (model_cache.folder() / "versions").iterdir() if not place.name.startswith(".")}


def test_versions_that_are_not_to_be_kept_are_removed() -> None:
    kept, first, second = put("kept"), put("first"), put("second", evidence="e1" * 32)
    model_cache.hold(first)
    assert set(model_cache.prune([kept, "not here"])) == {first, second}
    assert cached() == {kept}
    assert model_cache.prune([kept]) == []


def test_an_empty_cache_has_nothing_to_prune() -> None:
    assert model_cache.prune([]) == []


def test_the_weights_under_a_kept_adapter_stay() -> None:
    weights = put("weights")
    adapter = put("adapter", on=weights)
    assert model_cache.prune([adapter]) == []
    assert set(model_cache.prune([])) == {weights, adapter}


def test_a_version_that_another_process_holds_stays_until_that_process_ends() -> None:
    digest = put("held")
    script = (
        f"from tunesmith.serving import model_cache; model_cache.hold({digest!r}); print('held', flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        model_cache.hold(digest)
        assert model_cache.prune([]) == []
        assert cached() == {digest}
        holder.kill()
        holder.wait()
    assert model_cache.prune([]) == [digest]


def test_a_version_that_was_removed_can_still_be_held_and_fetched_again() -> None:
    digest = put("first")
    model_cache.prune([])
    assert not model_cache.hold(digest).exists()
    assert put("first") == digest
    assert model_cache.hold(digest) == model_cache.version_folder(digest)


FOREIGN = ["a file in the model", "a folder beside it", "another name", "a link", "no manifest", "a file"]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_folder_that_is_not_a_version_as_it_was_fetched_stays(foreign: str, tmp_path: Path) -> None:
    place = model_cache.version_folder(put("mine"))
    match foreign:
        case "a file in the model":
            (place / "model" / "notes.txt").write_text("mine")
        case "a folder beside it":
            (place / "notes").mkdir()
        case "another name":
            place = place.rename(place.with_name("kept-by-hand"))
        case "a link":
            place.rename(tmp_path / "elsewhere")
            place.symlink_to(tmp_path / "elsewhere")
        case "no manifest":
            (place / "model" / manifest.NAME).unlink()
        case "a file":
            place.rename(tmp_path / "elsewhere")
            place.write_text("mine")
    assert model_cache.prune([]) == []
    assert cached() == {place.name}


def test_a_removal_that_was_killed_is_completed_by_the_next() -> None:
    digest = put("again")
    remains = model_cache.version_folder(digest).with_name(f".{digest}.partial")
    (remains / "model").mkdir(parents=True)
    assert model_cache.prune([]) == [digest]
    assert not remains.exists()
