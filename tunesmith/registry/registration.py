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
from tempfile import TemporaryDirectory
from typing import TypedDict

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, RegistryError, SupersededError
from tunesmith.core.lineage import Lineage
from tunesmith.evaluation.documents import Outcome
from tunesmith.registry import ledger, versions
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.versions import (
    DIGEST_TAG,
    EVIDENCE_FOLDER,
    MODEL_FOLDER,
    MODEL_TAG,
    SIGNATURE_FILE,
    STATEMENT_FILE,
    STATEMENT_TAG,
    Claims,
    Statement,
)

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
    outcome: Outcome,
    evidence: str,
    files: Mapping[str, str],
    tags: Mapping[str, str],
    description: str,
    signing: Signing,
) -> str:
    """Sign and upload a model folder and make it a version of ``name``. Returns the version's number.

    outcome, evidence: the gate's decision and its reason. files: further evidence, text by file name. tags: for readers
    and filters. Raises IntegrityError if the folder does not verify, here or after the upload, or the history of
    promotions is not valid.
    """
    own = manifest.verify(folder)
    ledger.create(registry, name, signing)
    champion = ledger.read(registry, name, signing).verified(name).head(ledger.CHAMPION)
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
        "sequence": 0,  # numbered when it is signed
    }

    def attempt() -> str:
        statement_id = _find_statement(registry, claims, signing) or _upload(registry, folder, claims, files, signing)
        all_tags = {MODEL_TAG: folder.name, **tags, STATEMENT_TAG: statement_id}
        number = registry.ensure_version(
            name, run, digest_tag=(DIGEST_TAG, own.digest), tags=all_tags, description=description
        )
        with TemporaryDirectory() as scratch:
            version = versions.choose(registry, name, number, signing)
            versions.fetch_statement(registry, name, version, Path(scratch), signing)
        return number

    for pause in PAUSES:
        with suppress(SupersededError):  # another process registers the same model at this moment
            return attempt()
        time.sleep(pause * random.random())
    return attempt()


def _find_statement(registry: Registry, claims: Claims, signing: Signing) -> str | None:
    """Return the id of the statement of this run's version, if it makes the same claims and all its files verify."""
    name, run = claims["of"], claims["run"]
    version = next((v for v in registry.versions(name) if v.run == run and STATEMENT_TAG in v.tags), None)
    if version is None:
        return None
    with TemporaryDirectory() as scratch, suppress(IntegrityError, RegistryError):
        registered = versions.fetch(registry, name, version, Path(scratch), signing).claims
        files = {file: digest for file, digest in registered["files"].items() if file != MODEL_SIGNATURE_FILE}
        if {**registered, "files": files, "sequence": 0} == claims:
            return version.tags[STATEMENT_TAG]
    return None


def _upload(registry: Registry, folder: Path, claims: Claims, files: Mapping[str, str], signing: Signing) -> str:
    """Sign and upload the model and its evidence, read them back and check them. Returns the statement's id."""
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
    registry.upload(claims["run"], folder, MODEL_FOLDER)
    with TemporaryDirectory() as scratch:
        for file, content in evidence.items():
            (Path(scratch) / file).write_text(content)
        registry.upload(claims["run"], Path(scratch), f"{EVIDENCE_FOLDER}/{statement.id}")
    with TemporaryDirectory() as scratch:
        tags = {MODEL_TAG: folder.name, DIGEST_TAG: claims["digest"], STATEMENT_TAG: statement.id}
        planned = Version("to be made", claims["run"], tags)
        versions.fetch(registry, claims["of"], planned, Path(scratch), signing)
    return statement.id


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def description(name: str, lineage: Lineage, sentence: str, rows: int, dataset: str) -> str:
    """Return the description of a version for the tracker's UI, in Markdown."""
    code = lineage["code"]
    commit = f"commit `{code['commit'][:12]}`" if code["commit"] else "no git checkout"
    dirty = "" if code["clean"] else ", **with uncommitted changes**"
    return (
        f"**{sentence}**\n\n"
        f"- trained on {rows} rows of `{dataset}` from {lineage['base']['source'].split(' sha256:')[0]}\n"
        f"- code: {commit}{dirty}; hardware: {lineage['hardware']['device']}\n"
        f"- `tunesmith lineage {name} --verify` shows and checks where it comes from\n"
        f"- promote it with `tunesmith promote {name}`\n"
    )
