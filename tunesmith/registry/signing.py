"""Sign and verify model folders and texts. The only importer of model_signing.

A signature is a Sigstore bundle, kept as text beside the signed files; `model_signing verify` reads it too. By default
the signer is this user's own elliptic-curve key, made on first use outside the repository; the public keys of trusted
colleagues are files of the repository.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Annotated, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from pydantic import Discriminator, Field, RootModel, Tag

from tunesmith.core import files
from tunesmith.core.errors import IntegrityError, SigningError, TunesmithError, UntrustedError
from tunesmith.core.params import Section

PASSWORD = "TUNESMITH_KEY_PASSWORD"
"""The environment variable with the password of an encrypted private key."""


class Key(Section):
    """An elliptic-curve key. private: a PEM file; null for this user's own. trusted: PEM files of public keys."""

    kind: Literal["key"] = "key"
    private: Path | None = None
    trusted: tuple[Path, ...] = ()


class Certificate(Section):
    """An X.509 signing certificate. chain: the certificates between it and a root. roots: the trusted roots; at least
    one, since an empty list would trust every authority that browsers trust."""

    kind: Literal["certificate"] = "certificate"
    private: Path
    certificate: Path
    chain: list[Path]
    roots: list[Path] = Field(min_length=1)


class Sigstore(Section):
    """An identity that Sigstore certifies, the only trusted one. Signing and verifying need the network."""

    kind: Literal["sigstore"] = "sigstore"
    identity: str
    issuer: str


Signing = Key | Certificate | Sigstore


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
                config.use_certificate_signer(
                    private_key=private, signing_certificate=certificate, certificate_chain=chain
                )
            case Sigstore(issuer=issuer):
                config.use_sigstore_signer(oidc_issuer=issuer, use_ambient_credentials="CI" in os.environ)
        signature = Path(scratch) / "signature"
        config.sign(path, signature)
        return signature.read_text()


def verify(path: Path, signature: str, signing: Signing) -> str:
    """Verify the signature over a file or folder. Returns the signer: a key's fingerprint, or an identity.

    Raises IntegrityError where the bytes are not exactly the signed ones, UntrustedError where the key is not trusted.
    """
    from model_signing.verifying import Config

    config = Config()
    with TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "signature"
        bundle.write_text(signature)
        match signing:
            case Key():
                signer, key = _trusted_key(path, signature, signing)
                public = Path(scratch) / "public"
                public.write_bytes(key)
                config.use_elliptic_key_verifier(public_key=public)
            case Certificate(roots=roots):
                signer = "a certificate of " + ", ".join(root.name for root in roots)
                config.use_certificate_verifier(certificate_chain=roots)
            case Sigstore(identity=identity, issuer=issuer):
                signer = identity
                config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
        try:
            config.verify(path, bundle)
        except Exception as error:  # a forged bundle can make the library raise anything
            raise IntegrityError(
                f"{path}: differs from what was signed: {str(error) or type(error).__name__}",
                fix="find out who changed it; register the model again from models/",
            ) from None
    return signer


def sign_text(text: str, signing: Signing) -> str:
    """Sign a text and return the signature."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "text"
        path.write_text(text)
        return sign(path, signing)


def verify_text(text: str, signature: str, signing: Signing) -> str:
    """Verify the signature over a text. Returns the signer; raises as `verify` does."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "text"
        path.write_text(text)
        return verify(path, signature, signing)


def private_key(signing: Key) -> Path:
    """Return the file of the private key. This user's own is made on first use, with its public half beside it."""
    if signing.private is not None:
        return signing.private
    path = own_key()
    if not path.exists():
        _make_key(path)
        public = path.with_name(f"{path.name}.pub")
        files.write_bytes(public, _public_half(path))
        print(f"note: made a signing key; colleagues trust it by listing {public} in signing.trusted", file=sys.stderr)
    return path


def own_key() -> Path:
    """Return the path of this user's own key, which may not exist yet."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "tunesmith" / "signing.pem"


def public_keys(signing: Key) -> dict[str, bytes]:
    """Return the trusted public keys as PEM, by fingerprint: the own one, if it exists, and those of `trusted`.

    A fingerprint, which identifies the key in a signature, is the SHA-256, in hex, of the PEM. Raises SigningError if
    a key cannot be read.
    """
    private = signing.private or own_key()
    keys = [_public_half(private)] if private.exists() else []
    for path in signing.trusted:
        with _raising_key_errors(path):
            keys.append(_pem(serialization.load_pem_public_key(path.read_bytes())))
    return {hashlib.sha256(key).hexdigest(): key for key in keys}


def _trusted_key(path: Path, signature: str, signing: Key) -> tuple[str, bytes]:
    """Return the fingerprint and PEM of the trusted public key that a signature names."""
    try:
        fingerprint = str(json.loads(signature)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"{path}: its signature is not by a key", fix="register the model again") from None
    keys = public_keys(signing)
    if fingerprint not in keys:
        raise UntrustedError(
            f"{path}: signed by the key {fingerprint[:12]}, which is not trusted here",
            fix="ask the signer for the public key, add its file to signing.trusted in params.yaml, and commit both",
        )
    return fingerprint, keys[fingerprint]


def _make_key(path: Path) -> None:
    """Make a new key atomically; if two processes make one at once, the first stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with NamedTemporaryFile(dir=path.parent) as partial:  # readable by this user only
        partial.write(secret)
        partial.flush()
        os.fsync(partial.fileno())
        with suppress(FileExistsError):
            os.link(partial.name, path)


def _public_half(private: Path) -> bytes:
    with _raising_key_errors(private):
        password = os.environ.get(PASSWORD)
        key = serialization.load_pem_private_key(private.read_bytes(), password.encode() if password else None)
        return _pem(key.public_key())


def _pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def _raising_key_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(
            f"{path}: not a readable key in PEM: {error}",
            fix=f"correct the section signing in params.yaml (an encrypted key's password comes from {PASSWORD})",
        ) from None


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
