"""Sign and verify model folders and texts. The only importer of model_signing.

A signature is a Sigstore bundle, kept as text beside the signed files; `model_signing verify` reads it too. By default
the signer is this user's own elliptic-curve key, made on first use outside the repository; the public keys of trusted
colleagues are files of the repository. A key that is lost, or whose owner left, is retired: what it signed up to a
named entry of the history still counts. A key that somebody else may have used is revoked.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field, RootModel, Tag

from tunesmith.core import files
from tunesmith.core.errors import IntegrityError, SigningError, TunesmithError, UntrustedError
from tunesmith.core.params import Section
from tunesmith.registry import key_files, text_signatures
from tunesmith.registry.key_files import PASSWORD

if TYPE_CHECKING:
    from model_signing.verifying import Config

EntryId = Annotated[str, Field(pattern="^[0-9a-f]{12,64}$")]
"""The first 12 or more characters of the id of an entry, as `tunesmith history` prints it."""


class Key(Section):
    """An elliptic-curve key. private: a PEM file; null for this user's own. trusted: PEM files of public keys. retired:
    PEM files of public keys whose signatures count up to an entry of the history, with its id. revoked: those whose
    entries up to one stay in the history, while no version that they signed counts; null where they signed no entry.
    history: a file of the repository that holds the history's last entry, signed by whoever promotes."""

    kind: Literal["key"] = "key"
    private: Path | None = None
    trusted: tuple[Path, ...] = ()
    retired: dict[Path, EntryId] = Field(default_factory=dict)
    revoked: dict[Path, EntryId | None] = Field(default_factory=dict)
    history: Path | None = None


class Certificate(Section):
    """An X.509 signing certificate. chain: the certificates between it and a root. roots: the trusted roots; at least
    one, since an empty list would trust every authority that browsers trust. history: as in the kind key."""

    kind: Literal["certificate"] = "certificate"
    private: Path
    certificate: Path
    chain: list[Path]
    roots: list[Path] = Field(min_length=1)
    history: Path | None = None


class Sigstore(Section):
    """An identity that Sigstore certifies, the only trusted one. Signing and verifying need the network. history: as
    in the kind key."""

    kind: Literal["sigstore"] = "sigstore"
    identity: str
    issuer: str
    history: Path | None = None


Signing = Key | Certificate | Sigstore
TRUST = (
    "ask the signer for the public key, add its file to signing.trusted in params.yaml, and commit both; if the key "
    "was lost or its owner left, add the file to signing.retired instead, with the id of the last entry of the "
    "history that counts; where nobody has the public key, `tunesmith history --restart REASON` begins a new one"
)
"""The fix for a signature by a key that is not trusted."""


@dataclass(frozen=True)
class Withdrawn:
    """A retired or revoked key."""

    pem: bytes
    until: str | None
    """The start of the id of the last entry of the history that it may have signed."""
    revoked: bool
    file: Path


def _kind(signing: object) -> str:
    """Return the kind that the section names, or the one that its other keys imply."""
    if not isinstance(signing, dict):
        return str(getattr(signing, "kind", "key"))
    by_keys = "certificate" if "certificate" in signing else "sigstore" if "identity" in signing else "key"
    return str(signing.get("kind") or by_keys)


class Settings(
    RootModel[
        Annotated[
            Annotated[Key, Tag("key")]
            | Annotated[Certificate, Tag("certificate")]
            | Annotated[Sigstore, Tag("sigstore")],
            Discriminator(_kind),
        ]
    ]
):
    """The section `signing`. Left out, this user's own key signs and no other is trusted."""


def sign(path: Path, signing: Signing) -> str:
    """Sign a file, or every file of a folder, and return the signature. Raises SigningError if the key is unusable."""
    from model_signing.signing import Config

    config = Config()
    with TemporaryDirectory() as scratch, _raising_signing_errors(signing):
        match signing:
            case Key():
                password = os.environ.get(PASSWORD)
                config.use_elliptic_key_signer(
                    private_key=private_key(signing), password=password and password.encode()
                )
            case Certificate(private=private, certificate=certificate, chain=chain):
                key_files.check(private, private=True)
                config.use_certificate_signer(
                    private_key=private, signing_certificate=certificate, certificate_chain=chain
                )
            case Sigstore(issuer=issuer):
                config.use_sigstore_signer(oidc_issuer=issuer, use_ambient_credentials="CI" in os.environ)
        signature = Path(scratch) / "signature"
        config.sign(path, signature)
        return signature.read_text()


def verify(path: Path, signature: str, signing: Signing, *, withdrawn: bool = False) -> str:
    """Verify the signature over a file or folder. Returns the signer: a key's fingerprint, or an identity.

    withdrawn: whether a retired or revoked key will do; the caller checks when it signed (`withdrawn_keys`). Raises
    IntegrityError where the bytes are not exactly the signed ones, UntrustedError where the key is not trusted.
    """
    match signing:
        case Key():
            signer, key = _trusted_key(path, signature, signing, withdrawn)
            _verify_by_key(path, signature, key)
            return signer
        case Certificate(roots=roots):
            _verify(path, signature, lambda config: config.use_certificate_verifier(certificate_chain=roots))
            return "a certificate of " + ", ".join(root.name for root in roots)
        case Sigstore(identity=identity, issuer=issuer):
            _verify(path, signature, lambda config: config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer))
            return identity


def _verify_by_key(path: Path, signature: str, key: bytes) -> None:
    with TemporaryDirectory() as scratch:
        public = Path(scratch) / "public"
        public.write_bytes(key)
        _verify(path, signature, lambda config: config.use_elliptic_key_verifier(public_key=public))


def _verify(path: Path, signature: str, use: "Callable[[Config], object]") -> None:
    from model_signing.verifying import Config

    config = Config()
    with TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "signature"
        bundle.write_text(signature)
        use(config)
        try:
            config.verify(path, bundle)
        except Exception as error:  # a forged bundle can make the library raise anything
            raise IntegrityError(
                f"{path}: differs from what was signed: {str(error) or type(error).__name__}",
                fix="find out who changed it; register the model again from models/",
            ) from None


def sign_text(text: str, signing: Signing) -> str:
    """Sign a text and return the signature."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "text"
        path.write_text(text)
        return sign(path, signing)


def verify_text(text: str, signature: str, signing: Signing, *, withdrawn: bool = False) -> str:
    """Verify the signature over a text. Returns the signer; takes ``withdrawn`` and raises as `verify` does."""
    if isinstance(signing, Key):
        signer, key = _trusted_key(Path("text"), signature, signing, withdrawn)
        verify_text_by_key(text, signature, key)
        return signer
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "text"
        path.write_text(text)
        return verify(path, signature, signing)


@lru_cache(maxsize=100_000)  # a server reads the same history again every few seconds
def verify_text_by_key(text: str, signature: str, key: bytes) -> None:
    """Verify a signature over a text by a public key in PEM. Raises IntegrityError."""
    if text_signatures.is_valid(text, signature, key):
        return
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "text"
        path.write_text(text)
        _verify_by_key(path, signature, key)


def private_key(signing: Key) -> Path:
    """Return the file of the private key. This user's own is made on first use, with its public half beside it.

    Raises SigningError where the key was withdrawn: nothing that it signs would count.
    """
    path = signing.private or own_key()
    if signing.private is None and not os.path.lexists(path):
        key_files.make(path)
        public = path.with_name(f"{path.name}.pub")
        files.write_bytes(public, key_files.public_half(path))
        print(f"note: made a signing key; colleagues trust it by listing {public} in signing.trusted", file=sys.stderr)
    if withdrawn := withdrawn_keys(signing).get(fingerprint(key_files.public_half(path))):
        raise SigningError(
            f"{path}: this key is {'revoked' if withdrawn.revoked else 'retired'} in params.yaml ({withdrawn.file})",
            fix=f"move {path} away, and a new key is made; list its public half in signing.trusted",
        )
    return path


def fingerprint(key: bytes) -> str:
    """Return what identifies a public key in a signature: the SHA-256, in hex, of its PEM."""
    return hashlib.sha256(key).hexdigest()


def own_key() -> Path:
    """Return the path of this user's own key, which may not exist yet."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "tunesmith" / "signing.pem"


def public_keys(signing: Key) -> dict[str, bytes]:
    """Return the trusted public keys as PEM, by fingerprint: the own one, if it exists, and those of `trusted`.

    A retired or revoked key is none of them. Raises SigningError if a key cannot be read.
    """
    private = signing.private or own_key()
    keys = [key_files.public_half(private)] if private.exists() else []
    keys += [key_files.public(path) for path in signing.trusted]
    withdrawn = withdrawn_keys(signing)
    return {identity: key for key in keys if (identity := fingerprint(key)) not in withdrawn}


def withdrawn_keys(signing: Signing) -> dict[str, Withdrawn]:
    """Return the retired and revoked keys by fingerprint. Raises SigningError if one cannot be read, or is both."""
    if not isinstance(signing, Key):
        return {}
    keys: dict[str, Withdrawn] = {}
    for revoked, listed in ((False, signing.retired), (True, signing.revoked)):
        for path, until in listed.items():
            key = Withdrawn(key_files.public(path), until, revoked, path)
            keys[fingerprint(key.pem)] = key  # one that is listed as both is revoked
    return keys


def _trusted_key(path: Path, signature: str, signing: Key, withdrawn: bool) -> tuple[str, bytes]:
    """Return the fingerprint and PEM of the public key that a signature names, if it is trusted."""
    return named_key(path, signature, public_keys(signing), withdrawn_keys(signing), withdrawn)


def named_key(
    path: Path, signature: str, keys: dict[str, bytes], former: dict[str, Withdrawn], withdrawn: bool
) -> tuple[str, bytes]:
    """The fingerprint and PEM of the key that a signature names: of ``keys``, or of ``former`` if ``withdrawn``."""
    try:
        named = str(json.loads(signature)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"{path}: its signature is not by a key", fix="register the model again") from None
    if named in former and not withdrawn:
        key = former[named]
        raise UntrustedError(
            f"{path}: signed by {key.file}, which params.yaml {'revokes' if key.revoked else 'retires'}",
            fix="register the model again, with a key that is trusted",
        )
    if named not in keys and named not in former:
        raise UntrustedError(f"{path}: signed by the key {named[:12]}, which is not trusted here", fix=TRUST)
    return named, keys[named] if named in keys else former[named].pem


@contextmanager
def _raising_signing_errors(signing: Signing) -> Iterator[None]:
    try:
        yield
    except TunesmithError:
        raise
    except Exception as error:  # each kind of signer raises its own errors, down to those of the network
        raise SigningError(
            f"params.yaml: signing: the {signing.kind} cannot sign: {error or type(error).__name__}",
            fix=f"correct the section signing (an encrypted key's password comes from {PASSWORD})",
        ) from None
