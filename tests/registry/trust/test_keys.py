"""Keys that are lost, retired or revoked, and the files of keys."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from registered_versions import NAME, SIGNING, folder, register, unprobed

from tunesmith.cli.main import main
from tunesmith.core.errors import IntegrityError, SigningError, UntrustedError
from tunesmith.registry import key_files, ledger, promotion
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Key
from tunesmith.registry.trust.chain import LOST_TAG, Entry, lost_text, name_of


def prepare(project: Path) -> None:
    registry = Registry()
    register(registry, folder(project))
    promote(registry, "1", SIGNING)


@pytest.fixture
def registry(replayed: Registry) -> Registry:
    """A registry whose only version is the champion."""
    return replayed


@pytest.fixture
def project(replayed: Registry) -> Path:
    return Path.cwd()


@pytest.fixture
def old_key(project: Path, registry: Registry) -> Path:
    """The public half of the key that signed all of it, which is gone; the user has a new one."""
    kept = project / "keys" / "old.pub"
    kept.parent.mkdir()
    shutil.copy(f"{signatures.own_key()}.pub", kept)
    shutil.rmtree(signatures.own_key().parent)
    signatures.private_key(SIGNING)
    return kept


def promote(registry: Registry, which: str, signing: Key, **options: str) -> Entry:
    return promotion.promote(registry, NAME, which, signing=signing, probe=unprobed, **options)


def test_with_a_lost_key_everything_goes_on_once_it_is_retired_as_the_error_says(
    registry: Registry, project: Path, old_key: Path
) -> None:
    with pytest.raises(UntrustedError) as caught:
        ledger.read(registry, NAME, SIGNING).verified(NAME)
    for attempt in (
        lambda: promote(registry, "1", SIGNING),
        lambda: register(registry, folder(project, b"new"), "k2"),
    ):
        with pytest.raises(UntrustedError, match=r"\n  fix: .*signing\.trusted.*signing\.retired.*history --restart"):
            attempt()
    last = ledger.read(registry, NAME, Key(trusted=(old_key,))).entries[-1]
    retired = Key(retired={old_key: caught.value.reason.rpartition(" ")[2]})
    assert ledger.read(registry, NAME, retired).verified(NAME).head("champion") == last
    register(registry, folder(project, b"new"), "k2", signing=retired)
    promote(registry, "2", retired)
    assert promotion.rollback(registry, NAME, signing=retired, probe=unprobed).version == "1"


def test_what_a_retired_key_signed_after_its_last_entry_does_not_count(registry: Registry, old_key: Path) -> None:
    first, last = ledger.read(registry, NAME, Key(trusted=(old_key,))).entries
    with pytest.raises(UntrustedError, match=rf"signed the entry {last.hash[:16]}, and counts up to {first.hash[:16]}"):
        ledger.read(registry, NAME, Key(retired={old_key: first.hash[:16]})).verified(NAME)
    with pytest.raises(UntrustedError, match=rf"\n  fix: .*name {last.hash[:16]} for"):
        ledger.read(registry, NAME, Key(retired={old_key: "0" * 16})).verified(NAME)


def test_a_version_signed_by_a_revoked_key_counts_only_once_it_is_signed_anew(
    registry: Registry, project: Path, old_key: Path
) -> None:
    last = ledger.read(registry, NAME, Key(trusted=(old_key,))).entries[-1]
    revoked = Key(revoked={old_key: last.hash[:16]})
    chain = ledger.read(registry, NAME, revoked).verified(NAME)
    assert chain.head("champion") == last
    with pytest.raises(UntrustedError, match=r"old\.pub, which params\.yaml revokes\n  fix: register the model again"):
        promote(registry, "1", revoked, alias="staging")
    register(registry, folder(project), signing=revoked)
    assert promote(registry, "1", revoked).number == len(chain.entries) + 2


def test_a_revoked_key_cannot_take_anothers_entry_out_of_the_history(registry: Registry, old_key: Path) -> None:
    chain = ledger.read(registry, NAME, Key(trusted=(old_key,)))
    last, parent = chain.entries[-1], str(chain.entries[-1].parent)
    mark = f"{parent} {signatures.sign_text(lost_text(last, parent), SIGNING)}"
    signing = Key(trusted=(old_key,), revoked={Path(f"{signatures.own_key()}.pub"): None})
    registry.tag_version(name_of(NAME), registry.versions(name_of(NAME))[0].number, LOST_TAG, mark)
    with pytest.raises(IntegrityError, match="is marked as late by somebody who did not write it"):
        ledger.read(registry, NAME, signing).verified(NAME)


def test_the_own_key_does_not_sign_once_it_is_withdrawn(project: Path) -> None:
    signatures.private_key(SIGNING)
    public = Path(f"{signatures.own_key()}.pub")
    for key in (Key(retired={public: "0" * 12}), Key(revoked={public: None})):
        with pytest.raises(SigningError, match="this key is re"):
            signatures.sign_text("t", key)


def test_where_nobody_has_the_public_key_a_new_history_begins(registry: Registry, project: Path, old_key: Path) -> None:
    old_key.unlink()
    done = CliRunner().invoke(main, ["history", "--restart", "the laptop with the key was stolen"])
    assert done.exit_code == 0, done.output
    assert register(registry, folder(project)) == "1"
    assert promote(registry, "1", SIGNING).number == 2
    assert "the laptop with the key was stolen" in CliRunner().invoke(main, ["history"]).output
    kept = [m.name for m in registry.client.search_registered_models() if m.name.startswith(f"{name_of(NAME)}-until-")]
    assert len(registry.versions(kept[0])) == 2


def write_key(path: Path) -> Path:
    key_files.make(path)
    path.with_suffix(".pub").write_bytes(key_files.public_half(path))
    return path


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "readable by others": (lambda path: path.chmod(0o640), r"others than its owner may access .*\(mode 640\)"),
    "a link": (lambda path: link(path), "a link"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path, 0o600))[0], "not a regular file"),
    "two keys": (lambda path: path.write_bytes(2 * path.read_bytes()), "holds 2 keys"),
    "endless": (lambda path: os.truncate(path, 1 << 30), "are no key"),
}


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(("spoil", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_not_one_private_key_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = write_key(tmp_path / "k.pem")
    assert signatures.sign_text("t", Key(private=path))
    spoil(path)
    with pytest.raises(SigningError, match=message):
        signatures.sign_text("t", Key(private=path))


@pytest.mark.parametrize("name", [name for name in FILES if name != "readable by others"])
def test_a_file_that_is_not_one_public_key_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    public = write_key(tmp_path / "k.pem").with_suffix(".pub")
    assert list(signatures.public_keys(Key(trusted=(public,))).values()) == [public.read_bytes()]
    spoil, message = FILES[name]
    spoil(public)
    with pytest.raises(SigningError, match=message):
        signatures.public_keys(Key(trusted=(public,)))
    with pytest.raises(SigningError, match=message):
        signatures.withdrawn_keys(Key(revoked={public: None}))
