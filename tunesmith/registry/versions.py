"""Registered versions: choose one by name, and fetch its files, every byte checked against a signed statement.

A version is a logged model: ``model/`` is the model folder, and around it are the files that MLflow loads it by. The
run that made it holds ``evidence/<id>/``, the statement with its signature and the files that it covers. A tag of the
version names the id of the current statement; the statement names the digests of the model folder, of every file around
it, and of all other evidence. A model that is evaluated again gets another folder of evidence, which counts once the
tag names it.
"""

import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NotRequired, TypedDict

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, RegistryError, SupersededError, UntrustedError
from tunesmith.evaluation.documents import Outcome
from tunesmith.registry import ledger
from tunesmith.registry import signing as signatures
from tunesmith.registry.logged_models import DIGEST_TAG, MODEL_FOLDER
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing, Withdrawn
from tunesmith.registry.tracker import download_folder
from tunesmith.registry.trust.chain import Chain

MODEL_TAG, STATEMENT_TAG = "tunesmith.model", "tunesmith.statement"
"""Tags of a version: the name of the model, and the id of the current statement."""
EVIDENCE_FOLDER = "evidence"
STATEMENT_FILE, SIGNATURE_FILE = "statement.json", "statement.sig"


class Claims(TypedDict):
    """The content of a statement: what registering asserts about a version."""

    of: str
    """The name of the registered model."""
    model: str
    """The name of the model, such as sft-lora."""
    digest: str
    """The digest of the model folder's manifest."""
    weights_digest: str
    """The digest of the weights alone."""
    run: str
    """The id of the MLflow run that made the model."""
    outcome: Outcome
    """The gate's decision."""
    evidence: str
    """The comparison with the base, and the gate's reason, in words."""
    champion: str | None
    """The hash of the ledger entry of the champion at that time; null where there was none."""
    files: dict[str, str]
    """SHA-256, in hex, of each other file of evidence, by name."""
    mlflow_files: NotRequired[dict[str, str]]
    """SHA-256, in hex, of each file around the model folder, by its path in the logged model; statements of earlier
    releases, without a logged model, lack it."""
    sequence: int
    """Number of the statement among those about the run's model, from 1."""


@dataclass(frozen=True)
class Statement:
    """A signed statement: the pair of ``statement.json`` and ``statement.sig``."""

    text: str
    """The claims as JSON, exactly as signed."""
    signature: str

    @property
    def id(self) -> str:
        """SHA-256, in hex, of text and signature, since no byte of either may change unnoticed."""
        return hashlib.sha256((self.text + self.signature).encode()).hexdigest()

    @cached_property
    def claims(self) -> Claims:
        """The content of the text. Raises IntegrityError where it is another signed text than a statement."""
        try:
            claims: Claims = json.loads(self.text)
            if claims.keys() >= Claims.__required_keys__:
                return claims
        except (ValueError, AttributeError, RecursionError):
            pass
        raise IntegrityError(
            f"{STATEMENT_FILE}: not a statement of Tunesmith", fix="register the model again from models/"
        )


@dataclass(frozen=True)
class VersionFiles:
    """The verified files of a version."""

    version: Version
    folder: Path
    """The model folder."""
    evidence: Path
    """The folder of the statement and the files that it covers."""
    digest: str
    """The digest of the model folder's manifest."""
    claims: Claims
    signer: str
    """A key's fingerprint, or an identity."""


def choose(registry: Registry, name: str, which: str, signing: Signing, chain: Chain | None = None) -> Version:
    """Return the version that ``which`` names: a model such as ``sft-lora`` (its newest), a number, or ``@champion``.

    The history tells what an alias points to and which version of a model is the newest; a model whose registration it
    does not hold, of an earlier release, is found by its tag. chain: the history, if it was read already. Raises
    RegistryError where no such version exists, or it was not registered by this pipeline.
    """
    versions = registry.versions(name)
    version = next((v for v in versions if v.number == which), None)
    if version is None:
        chain = chain or ledger.read(registry, name, signing)
        wanted = _number(name, which, chain)
        version = next((v for v in versions if v.number == wanted), None)
        if wanted is not None and version is None:
            raise RegistryError(
                f"version {wanted} of {name}, which {which} names, was deleted",
                fix="restore it in the tracker, or name another version by its number",
            )
        version = version or next((v for v in versions if v.tags.get(MODEL_TAG) == which), None)
    if version is None:
        registered = ", ".join(f"{v.tags.get(MODEL_TAG)} (version {v.number})" for v in versions) or "none"
        raise RegistryError(
            f"{name} has no version {which!r} at {registry.uri}; registered: {registered}",
            fix="register it with `dvc repro --force --single-item register`",
        )
    if DIGEST_TAG not in version.tags or STATEMENT_TAG not in version.tags:
        raise RegistryError(
            f"{name} version {version.number} was not registered by this pipeline, so its content cannot be checked",
            fix="register the model with `dvc repro`, which evaluates it, signs it and records its digest",
        )
    head = chain.head(which.removeprefix("@")) if chain else None
    if which.startswith("@") and head and version.tags[DIGEST_TAG] != head.digest:
        raise changed(name, version, f"it was promoted with digest {head.digest[:12]}")
    return version


def _number(name: str, which: str, chain: Chain) -> str | None:
    """Return the number of the version that an alias or a model's name stands for in the history."""
    if not which.startswith("@"):
        return chain.newest(which)
    head = chain.verified(name).head(which[1:])
    if head is None:
        raise RegistryError(
            f"{name} has no {which[1:]} yet", fix=f"make one: `tunesmith promote MODEL --to {which[1:]}`"
        )
    return head.version


def fetch(
    registry: Registry, name: str, version: Version, into: Path, signing: Signing, chain: Chain | None
) -> VersionFiles:
    """Copy a version's model and evidence into a folder and check every byte against the signed statement.

    chain: the history, which must not contradict the statement; None for a version that is being registered. Raises
    IntegrityError that names the file or tag that changed.
    """
    statement, signer, evidence = fetch_statement(registry, name, version, into, signing, chain)
    folder = into / MODEL_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    with download_folder(into) as scratch:
        logged = registry.download(version.source, Path(scratch))
        if logged.name != MODEL_FOLDER:
            downloaded = logged / MODEL_FOLDER
            around = file_digests(logged, leave_out=downloaded)
        else:  # of an earlier release, without files around it
            downloaded, around = logged, {}
        if different := around.items() ^ statement.claims.get("mlflow_files", {}).items():
            files = ", ".join(sorted({file for file, _ in different}))
            raise changed(name, version, f"the files around its model were changed: {files}")
        if downloaded.is_dir():
            downloaded.rename(folder)
    digest = manifest.verify(folder).digest
    signed_digest = statement.claims["digest"]
    if digest != signed_digest:
        raise changed(name, version, f"its model has digest {digest[:12]}, not the signed {signed_digest[:12]}")
    return VersionFiles(version, folder, evidence, digest, statement.claims, signer)


def fetch_statement(
    registry: Registry, name: str, version: Version, into: Path, signing: Signing, chain: Chain | None
) -> tuple[Statement, str, Path]:
    """Return the current statement about a version, its signer, and the folder of its evidence, all verified.

    chain: as in `fetch`.
    """
    statement_id = find_statement(name, version)
    evidence = registry.download(f"{registry.artifacts(version.run)}/{EVIDENCE_FOLDER}/{statement_id}", into)
    statement = _read_statement(evidence)
    if statement.id != statement_id:
        raise changed(name, version, f"{STATEMENT_FILE} or {SIGNATURE_FILE} is not the one that its tag names")
    signer = signatures.verify_text(statement.text, statement.signature, signing, withdrawn=True)
    claims = statement.claims
    tags = version.tags.get(MODEL_TAG), version.tags.get(DIGEST_TAG)
    if (claims["of"], claims["run"], claims["model"], claims["digest"]) != (name, version.run, *tags):
        raise changed(name, version, "its tags name another model than the one signed")
    _check_record(chain, name, version, statement_id, signatures.withdrawn_keys(signing).get(signer))
    if last_sequence(registry, version.run, signing) > claims["sequence"]:
        raise _superseded(name, version)
    digests = file_digests(evidence)
    for file in (STATEMENT_FILE, SIGNATURE_FILE):
        del digests[file]
    if digests != claims["files"]:
        files = {file for file, _ in digests.items() ^ claims["files"].items()}
        raise changed(name, version, f"its evidence was changed: {', '.join(sorted(files))}")
    return statement, signer, evidence


def find_statement(name: str, version: Version) -> str:
    """Return the id of the current statement, from the version's tag. Raises IntegrityError where the tag is no id."""
    statement_id = version.tags[STATEMENT_TAG]
    if not re.fullmatch("[0-9a-f]{64}", statement_id):  # anyone with access to the tracker can write a tag
        raise changed(name, version, f"its tag {STATEMENT_TAG} names no statement")
    return statement_id


def _check_record(
    chain: Chain | None, name: str, version: Version, statement: str, withdrawn: Withdrawn | None
) -> None:
    """Raise IntegrityError where the history contradicts the statement about a version.

    Its last registration must name the statement; no other version's may. Of a retired key, the statement must be in
    the history up to the entry up to which the key counts.
    """
    entries = chain.entries if chain else []
    about = [place for place, entry in enumerate(entries) if entry.statement == statement]
    if withdrawn and (withdrawn.revoked or not about or not chain or about[0] > chain.place(withdrawn.until)):
        raise UntrustedError(
            f"{name} version {version.number}: its statement was signed by {withdrawn.file}, which params.yaml "
            + ("revokes" if withdrawn.revoked else f"retires at the entry {withdrawn.until}"),
            fix="register the model again, with a key that is trusted: `dvc repro --force --single-item register`",
        )
    last = chain.registration(version.number) if chain else None
    if last is not None and last.statement != statement:
        raise _superseded(name, version)
    if about and all(entries[place].version != version.number for place in about):
        other = entries[about[0]].version
        raise changed(name, version, f"its statement is that of version {other}")


def _superseded(name: str, version: Version) -> SupersededError:
    return SupersededError(
        f"{name} version {version.number}: evaluated again since the statement that its tag names",
        fix="complete that registration: `dvc repro --force --single-item register`",
    )


def last_sequence(registry: Registry, run: str, signing: Signing) -> int:
    """Return the highest sequence number of the trusted statements about a run's model; 0 where there is none.

    It reveals a tag that was set back to an earlier evaluation.
    """
    last, place = 0, f"{registry.artifacts(run)}/{EVIDENCE_FOLDER}"
    for statement_id in registry.folders(run, EVIDENCE_FOLDER):
        with download_folder() as scratch, suppress(IntegrityError, RegistryError):
            statement = _read_statement(registry.download(f"{place}/{statement_id}", Path(scratch)))
            signatures.verify_text(statement.text, statement.signature, signing, withdrawn=True)
            if statement.claims["run"] == run:
                last = max(last, statement.claims["sequence"])
    return last


def file_digests(folder: Path, leave_out: Path | None = None) -> dict[str, str]:
    """Return SHA-256, in hex, of the files of a folder by path, without those in ``leave_out``."""
    return {
        path.relative_to(folder).as_posix(): manifest.file_digest(path)
        for path in manifest.regular_files(folder)
        if leave_out not in path.parents
    }


def changed(name: str, version: Version, difference: str) -> IntegrityError:
    """Return the error for a version that differs from its signed statement."""
    return IntegrityError(
        f"{name} version {version.number}: {difference}: changed after registration",
        fix="find out who changed it; register the model again from models/",
    )


def _read_statement(evidence: Path) -> Statement:
    return Statement(_text(evidence / STATEMENT_FILE), _text(evidence / SIGNATURE_FILE))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error})", fix="register the model again from models/") from None
