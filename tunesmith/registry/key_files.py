"""The files of keys: one key in a regular file, and a private one that only its owner can read."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from tunesmith.core.errors import SigningError

PASSWORD = "TUNESMITH_KEY_PASSWORD"
"""The environment variable with the password of an encrypted private key."""
MAX_BYTES = 1 << 16
"""Limit on the size of a file of keys."""


def check(path: Path, *, private: bool, one: bool = True) -> bytes:
    """Return the content of a PEM file.

    Raises SigningError where it is a link or no regular file, others than its owner may access a ``private`` one, or it
    holds several keys where ``one`` is wanted: only the first would count, and nobody would see it.
    """
    with raising_key_errors(path):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a link, which can point anywhere" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            raise SigningError(f"{path}: {kind}", fix="put the file of the key itself there")
        if private and status.st_mode & 0o077:
            raise SigningError(
                f"{path}: others than its owner may access this private key (mode {stat.S_IMODE(status.st_mode):03o})",
                fix=f"`chmod 600 {path}`; if somebody may have read it, make a new key and retire this one "
                "(signing.retired in params.yaml)",
            )
        if status.st_size > MAX_BYTES:
            raise SigningError(f"{path}: {status.st_size:,} bytes are no key", fix="put the file of the key there")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_BYTES)
        if one and (keys := content.count(b"-----BEGIN ")) > 1:
            raise SigningError(f"{path}: holds {keys} keys, of which only the first would count", fix="one key a file")
        return content


def make(path: Path) -> None:
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


def public(path: Path) -> bytes:
    """Return the public key in a file, as PEM. Raises SigningError."""
    with raising_key_errors(path):
        return _pem(serialization.load_pem_public_key(check(path, private=False)))


def public_half(path: Path) -> bytes:
    """Return the public half of the private key in a file, as PEM. Raises SigningError."""
    with raising_key_errors(path):
        password = os.environ.get(PASSWORD)
        content = check(path, private=True)
        return _pem(serialization.load_pem_private_key(content, password.encode() if password else None).public_key())


def _pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def raising_key_errors(path: Path) -> Iterator[None]:
    """Turn an error of reading a key into a SigningError that names its file."""
    try:
        yield
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(
            f"{path}: not a readable key in PEM: {error}",
            fix=f"correct the section signing in params.yaml (an encrypted key's password comes from {PASSWORD})",
        ) from None
