"""A registered version: which one is meant, and its files, checked to the last byte.

The run of a version holds ``model/``, the model folder, and ``evidence/<id>/``: what was signed about it. The
version's tag names the id, the SHA-256 of ``statement.json`` and its signature; the statement names the digests of the
model and of all other evidence. A model that is evaluated again gets evidence beside the old one, which counts once the
tag names it.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, RegistryError, SupersededError
from tunesmith.registry import ledger
from tunesmith.registry import signing as signatures
from tunesmith.registry.ledger import Chain
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing

DIGEST, MODEL, STATEMENT = "tunesmith.digest", "tunesmith.model", "tunesmith.statement"
"""Tags of a version."""
MODEL_FOLDER, EVIDENCE_FOLDER = "model", "evidence"
SAID, SIGNED = "statement.json", "statement.sig"


@dataclass(frozen=True)
class Fetched:
    """A version's files, verified. folder: the model. evidence: the folder of what was signed. digest: the manifest's.

    statement: what was signed at registration (tunesmith/registry/registration.py). signer: by whom.
    """

    version: Version
    folder: Path
    evidence: Path
    digest: str
    statement: dict[str, Any]
    signer: str


def choose(registry: Registry, name: str, which: str, signing: Signing, chain: Chain | None = None) -> Version:
    """The version that ``which`` names: a model such as ``sft-lora`` (its newest), a number, or ``@champion``.

    An alias is looked up in the history of promotions; chain: that, where it was read before. Raises RegistryError
    where there is none, or where it was not registered by this pipeline.
    """
    versions = registry.versions(name)
    if which.startswith("@"):
        head = (chain or ledger.read(registry, name, signing)).sound(name).head(which[1:])
        if head is None:
            raise RegistryError(f"{name} has no {which[1:]} yet", fix="make one with `tunesmith promote MODEL`")
        wanted: tuple[str, ...] = (head.version,)
    else:
        wanted = (which,)
    by_number = next((v for v in versions if v.number in wanted), None)
    version = by_number or next((v for v in versions if v.tags.get(MODEL) in wanted), None)
    if version is None:
        known = ", ".join(f"{v.tags.get(MODEL)} (version {v.number})" for v in versions) or "none"
        raise RegistryError(
            f"{name} has no version {which!r} at {registry.uri}; registered: {known}",
            fix=f"register it with `dvc repro --force --single-item register@{which}`",
        )
    if DIGEST not in version.tags or STATEMENT not in version.tags:
        raise RegistryError(
            f"{name} version {version.number} was not registered by this pipeline: what it is cannot be checked",
            fix="register the model with `dvc repro`, which evaluates it, signs it and records its digest",
        )
    return version


def fetch(registry: Registry, name: str, version: Version, into: Path, signing: Signing) -> Fetched:
    """Copy a version's files into a folder, and check every byte against what was signed.

    Raises IntegrityError that names what is not as it was.
    """
    statement, signer, evidence = fetch_statement(registry, name, version, into, signing)
    folder = registry.download(version.run, MODEL_FOLDER, into)
    digest = manifest.verify(folder).digest
    if digest != statement["digest"]:
        raise changed(name, version, f"its model has digest {digest[:12]}, not the signed {statement['digest'][:12]}")
    return Fetched(version, folder, evidence, digest, statement, signer)


def fetch_statement(
    registry: Registry, name: str, version: Version, into: Path, signing: Signing
) -> tuple[dict[str, Any], str, Path]:
    """What was signed about a version, by whom, and the folder of its evidence, all of it verified."""
    key = version.tags[STATEMENT]
    evidence = registry.download(version.run, f"{EVIDENCE_FOLDER}/{key}", into)
    text, signature = _text(evidence / SAID), _text(evidence / SIGNED)
    if statement_id(text, signature) != key:
        raise changed(name, version, f"{SAID} or {SIGNED} is not what its tag names")
    signer = signatures.verify_text(text, signature, signing)
    statement: dict[str, Any] = json.loads(text)
    tags = version.tags.get(MODEL), version.tags.get(DIGEST)
    if (statement["of"], statement["run"], statement["model"], statement["digest"]) != (name, version.run, *tags):
        raise changed(name, version, "its tags name another model than the one signed")
    if sequence(registry, version.run, signing) > statement["sequence"]:
        raise SupersededError(
            f"{name} version {version.number}: evaluated again since what its tag names",
            fix=f"complete that registration: `dvc repro --force --single-item register@{statement['model']}`",
        )
    found = {
        path.relative_to(evidence).as_posix(): manifest.file_digest(path)
        for path in evidence.rglob("*")
        if path.is_file() and path not in (evidence / SAID, evidence / SIGNED)
    }
    if found != statement["files"]:
        odd = {key for key, _ in found.items() ^ statement["files"].items()}
        raise changed(name, version, f"its evidence was changed: {', '.join(sorted(odd))}")
    return statement, signer, evidence


def sequence(registry: Registry, run: str, signing: Signing) -> int:
    """Of the last statement that was signed about a run's model, by someone trusted; 0 where there is none.

    A tag can be set back to an earlier evaluation. What was signed later says so.
    """
    last = 0
    for key in registry.folders(run, EVIDENCE_FOLDER):
        with TemporaryDirectory() as scratch, suppress(IntegrityError, RegistryError):
            folder = registry.download(run, f"{EVIDENCE_FOLDER}/{key}", Path(scratch))
            text = _text(folder / SAID)
            signatures.verify_text(text, _text(folder / SIGNED), signing)
            statement = json.loads(text)
            if statement["run"] == run:
                last = max(last, statement["sequence"])
    return last


def statement_id(text: str, signature: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256((text + signature).encode()).hexdigest()


def changed(name: str, version: Version, what: str) -> IntegrityError:
    return IntegrityError(
        f"{name} version {version.number}: {what}: changed after registration",
        fix="find out who changed it; register the model again from models/",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: not readable ({error})", fix="register the model again from models/") from None
