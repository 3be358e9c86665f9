"""Register a model folder as a version of a registered model, with its evaluation, signed.

Files are uploaded first, read back and checked; the version is created last, in one transaction with its tags. A
process killed before that leaves no version; registering again completes it and never creates a second one.
"""

import hashlib
import json
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, RegistryError, SupersededError
from tunesmith.core.lineage import Lineage
from tunesmith.evaluation.documents import Outcome
from tunesmith.registry import ledger, mlmodel, versions
from tunesmith.registry import signing as signatures
from tunesmith.registry.logged_models import DIGEST_TAG, MODEL_FOLDER, LoggedModel
from tunesmith.registry.mlmodel import Loading
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import download_folder
from tunesmith.registry.trust.chain import Chain
from tunesmith.registry.versions import (
    EVIDENCE_FOLDER,
    MODEL_TAG,
    SIGNATURE_FILE,
    STATEMENT_FILE,
    STATEMENT_TAG,
    Claims,
    Statement,
)

REREAD_PAUSES = (0.2, 0.4, 0.8)
"""Seconds between attempts to read an upload back."""
PAUSES = (1, 2, 4, 8)
"""Upper bounds of the random pauses, in seconds, between attempts while others register the same model."""
MODEL_SIGNATURE_FILE = "model.sig"
"""The file of evidence with the signature over the model folder, which `model_signing verify` takes."""


class Registration(TypedDict):
    """reports/registered/<model>/registration.json: the version that a model was registered as."""

    tracking_uri: str
    """The tracking server."""
    registered_model: str
    """The name of the registered model."""
    version: str
    """The version's number."""
    run_id: str
    """The id of the model's MLflow run."""
    model: str
    """The model's name."""
    model_digest: str
    """The digest of its manifest."""


def register(
    registry: Registry,
    name: str,
    run: str,
    folder: Path,
    *,
    loading: Loading,
    outcome: Outcome,
    evidence: str,
    files: Mapping[str, str],
    tags: Mapping[str, str],
    description: str,
    signing: Signing,
) -> str:
    """Sign and upload a model folder and make it a version of ``name``. Returns the version's number.

    loading: how MLflow opens it. outcome, evidence: the gate's decision and its reason. files: further evidence, text
    by file name. tags: for readers and filters. Raises IntegrityError if the folder does not verify, here or after the
    upload, or the history of promotions is not valid.
    """
    own = manifest.verify(folder)
    ledger.create(registry, name, signing)
    champion = ledger.read(registry, name, signing).verified(name).head(ledger.CHAMPION)
    logged = registry.ensure_logged(run, folder.name, own.digest)
    with download_folder() as scratch:
        around = Path(scratch)
        mlmodel.write(around, logged, folder, loading)
        claims: Claims = {
            "of": name,
            "model": folder.name,
            "digest": own.digest,
            "weights_digest": own.weights_digest,
            "run": run,
            "outcome": outcome,
            "evidence": evidence,
            "champion": champion.hash if champion else None,
            "files": {file: _sha256(text) for file, text in files.items()},
            "mlflow_files": versions.file_digests(around),
            "sequence": 0,  # numbered when it is signed
        }

        def attempt() -> str:
            statement_id = _find_statement(registry, logged, claims, signing)
            if statement_id is None:
                statement = _sign(registry, folder, claims, files, signing)
                registry.upload_model(logged, folder, MODEL_FOLDER)
                registry.upload_model(logged, around)
                _check_upload(registry, logged, claims, statement, signing)
                statement_id = statement.id
            all_tags = {MODEL_TAG: folder.name, DIGEST_TAG: own.digest, **tags, STATEMENT_TAG: statement_id}
            number = registry.ensure_version(name, logged, all_tags, description)
            version = versions.choose(registry, name, number, signing)
            chain = _record(registry, version, claims, statement_id, signing)
            version = versions.choose(registry, name, number, signing)  # another process may have set its tag
            with download_folder() as scratch:
                versions.fetch_statement(registry, name, version, Path(scratch), signing, chain)
            registry.finish_logged(logged, registered=(name, number))
            return number

        for pause in PAUSES:
            with suppress(SupersededError):  # another process registers the same model at this moment
                return attempt()
            time.sleep(pause * random.random())
        return attempt()


def _find_statement(registry: Registry, logged: LoggedModel, claims: Claims, signing: Signing) -> str | None:
    """Return the id of the statement of this model's version, if it makes the same claims and all its files verify."""
    name = claims["of"]
    registered = (v for v in registry.versions(name) if v.source == logged.address and STATEMENT_TAG in v.tags)
    version = next(registered, None)
    if version is None:
        return None
    with download_folder() as scratch, suppress(IntegrityError, RegistryError):
        signed = versions.fetch(registry, name, version, Path(scratch), signing, None).claims
        files = {file: digest for file, digest in signed["files"].items() if file != MODEL_SIGNATURE_FILE}
        if {**signed, "files": files, "sequence": 0} == claims:
            return version.tags[STATEMENT_TAG]
    return None


def _sign(registry: Registry, folder: Path, claims: Claims, files: Mapping[str, str], signing: Signing) -> Statement:
    """Sign the model and the claims, and upload the evidence."""
    model_signature = signatures.sign(folder, signing)
    signed_claims: Claims = {
        **claims,
        "files": claims["files"] | {MODEL_SIGNATURE_FILE: _sha256(model_signature)},
        "sequence": versions.last_sequence(registry, claims["run"], signing) + 1,
    }
    text = json.dumps(signed_claims, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    statement = Statement(text, signatures.sign_text(text, signing))
    evidence = {
        **files,
        MODEL_SIGNATURE_FILE: model_signature,
        STATEMENT_FILE: statement.text,
        SIGNATURE_FILE: statement.signature,
    }
    with download_folder() as scratch:
        for file, content in evidence.items():
            (Path(scratch) / file).write_text(content)
        registry.upload(claims["run"], Path(scratch), f"{EVIDENCE_FOLDER}/{statement.id}")
    return statement


def _check_upload(
    registry: Registry, logged: LoggedModel, claims: Claims, statement: Statement, signing: Signing
) -> None:
    """Read the model and its evidence back. Raises IntegrityError where they are not the ones that were signed.

    They are read again before that: another process that registers the same model may be writing the same files.
    """
    tags = {MODEL_TAG: claims["model"], DIGEST_TAG: claims["digest"], STATEMENT_TAG: statement.id}
    planned = Version("to be made", claims["run"], tags, logged.address)
    for pause in (*REREAD_PAUSES, None):
        try:
            with download_folder() as scratch:
                versions.fetch(registry, claims["of"], planned, Path(scratch), signing, None)
            return
        except IntegrityError:
            if pause is None:
                raise
            time.sleep(pause)


def _record(registry: Registry, version: Version, claims: Claims, statement_id: str, signing: Signing) -> Chain:
    """Have the history hold the statement as the version's current one, and return the history.

    It is what no deleted evidence and no tag can undo, and what makes a statement count for one version alone.
    """
    chain, name = ledger.read(registry, claims["of"], signing).verified(claims["of"]), claims["of"]
    while (last := chain.registration(version.number)) is None or last.statement != statement_id:
        entry = chain.successor(
            of=name,
            alias="",
            kind="registration",
            model=claims["model"],
            version=version.number,
            previous=None,
            why=f"the gate's decision: {claims['outcome']}",
            evidence=claims["evidence"],
            digest=claims["digest"],
            statement=statement_id,
        )
        chain = ledger.append(registry, entry, version, signing)
    return chain


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def description(name: str, lineage: Lineage, sentence: str, reason: str) -> str:
    """Return the description of a version for the tracker's UI, in Markdown; a list shows its first line as text."""
    code, device = lineage["code"], lineage["hardware"]["device"]
    commit = f"commit `{code['commit'][:12]}`" if code["commit"] else "no git checkout"
    dirty = "" if code["clean"] else ", **with uncommitted changes**"
    rows = "".join(f"- {entry['rows']} rows of `{path}`\n" for path, entry in lineage["inputs"].items())
    return (
        f"{sentence}\n\n"
        f"**Gate:** {reason}\n\n"
        f"**Made from** `{short(lineage['base']['source'])}`, {commit}{dirty}, on {device}, with\n\n{rows}\n"
        f"**Next:** `tunesmith lineage {name} --verify` shows and checks where it comes from; "
        f"`tunesmith promote {name}` makes it the champion\n"
    )


def short(source: str) -> str:
    """Return the source of a base model without its kind and its digest."""
    return source.partition(" ")[2].partition(" sha256:")[0]
