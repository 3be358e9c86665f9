"""Signatures by this user's own key and by colleagues' keys."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from tunesmith.core.errors import IntegrityError, SigningError
from tunesmith.registry import key_files, signing
from tunesmith.registry.signing import Key

OWN = Key(kind="key", private=None, trusted=[])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"weights")
    (folder / "b.json").write_text("{}")
    return folder


def move_to(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Become another user, with another configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / name))


def test_the_own_key_is_made_once_and_readable_by_its_owner_only(folder: Path, home: Path) -> None:
    first, second = signing.sign(folder, OWN), signing.sign(folder, OWN)
    assert signing.verify(folder, first, OWN) == signing.verify(folder, second, OWN)
    assert stat.S_IMODE(signing.own_key().stat().st_mode) == 0o600
    assert sorted(path.name for path in (home / "tunesmith").iterdir()) == ["signing.pem", "signing.pem.pub"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.safetensors").write_bytes(b"Weights"),
        lambda folder: (folder / "c.json").write_text("{}"),
        lambda folder: (folder / "b.json").unlink(),
        lambda folder: (folder / "b.json").rename(folder / "c.json"),
        lambda folder: (folder / "c.json").symlink_to(folder / "b.json"),
    ],
    ids=["changed", "added", "removed", "renamed", "linked"],
)
def test_any_change_breaks_the_signature(folder: Path, change: object) -> None:
    signature = signing.sign(folder, OWN)
    change(folder)
    with pytest.raises(IntegrityError, match="differs from what was signed"):
        signing.verify(folder, signature, OWN)


def test_a_strangers_signature_is_refused_until_the_key_is_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = signing.sign(folder, OWN)
    shared = tmp_path / "ada.pub"
    shared.write_bytes(Path(f"{signing.own_key()}.pub").read_bytes())
    move_to(tmp_path, "other", monkeypatch)
    with pytest.raises(IntegrityError, match=r"not trusted here\n  fix: .* signing.trusted"):
        signing.verify(folder, signature, OWN)
    assert signing.verify(folder, signature, Key(kind="key", private=None, trusted=[shared]))


def test_a_signature_that_names_a_trusted_key_must_be_by_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = signing.sign(folder, OWN)
    move_to(tmp_path, "other", monkeypatch)
    own = signing.sign(folder, OWN)
    fingerprint = signing.verify(folder, own, OWN)
    [stranger] = {line for line in theirs.split('"') if len(line) == 64 and line not in own}
    with pytest.raises(IntegrityError, match="differs from what was signed"):
        signing.verify(folder, theirs.replace(stranger, fingerprint), OWN)


@pytest.mark.parametrize("signature", ["", "{}", "[]", "null", '{"verificationMaterial": {"publicKey": {"hint": 3}}}'])
def test_a_text_that_is_not_a_signature_is_refused(folder: Path, signature: str) -> None:
    signing.sign(folder, OWN)
    with pytest.raises(IntegrityError):
        signing.verify(folder, signature, OWN)


def test_a_signature_over_a_text_fails_for_any_other_text() -> None:
    signature = signing.sign_text("the champion is version 1", OWN)
    assert signing.verify_text("the champion is version 1", signature, OWN)
    with pytest.raises(IntegrityError):
        signing.verify_text("the champion is version 2", signature, OWN)


def test_a_key_with_a_password_signs_only_with_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "k.pem"
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    path.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*form))
    path.chmod(0o600)
    settings = Key(kind="key", private=path, trusted=[])
    with pytest.raises(SigningError, match=key_files.PASSWORD):
        signing.sign_text("t", settings)
    monkeypatch.setenv(key_files.PASSWORD, "secret")
    assert signing.verify_text("t", signing.sign_text("t", settings), settings)


WEAK: dict[str, Callable[[], PrivateKeyTypes]] = {
    "a curve of 192 bits": lambda: ec.generate_private_key(ec.SECP192R1()),
    "another curve": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA": lambda: rsa.generate_private_key(65537, 1024),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("make", WEAK.values(), ids=WEAK)
def test_a_key_of_another_kind_neither_signs_nor_is_trusted_in_silence(
    tmp_path: Path, make: Callable[[], PrivateKeyTypes]
) -> None:
    path = tmp_path / "k.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(make().private_bytes(*form))
    path.chmod(0o600)
    with pytest.raises(SigningError):
        signing.sign_text("t", Key(private=path))
    with pytest.raises(SigningError, match=r"k\.pem"):
        signing.public_keys(Key(trusted=(path,)))  # the private one, where the public one belongs


@pytest.mark.parametrize("content", [None, b"", b"no key"])
def test_a_key_that_cannot_be_read_is_an_error_that_names_its_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "k.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SigningError):
        signing.sign_text("t", Key(kind="key", private=path, trusted=[]))
    with pytest.raises(SigningError, match=r"k\.pem"):
        signing.public_keys(Key(kind="key", private=None, trusted=[path]))


def test_two_first_uses_at_once_end_with_one_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = signing.own_key()
    link = os.link

    def link_second(source: str, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        signing.private_key(OWN)
        link(source, target)

    monkeypatch.setattr(os, "link", link_second)
    signing.private_key(OWN)
    assert signing.verify_text("t", signing.sign_text("t", OWN), OWN) == signing.verify_text(
        "t", signing.sign_text("t", Key(kind="key", private=path, trusted=[])), OWN
    )
