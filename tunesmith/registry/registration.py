"""Make a model a version of the registered model, with what was found out about it, signed.

Files go up first, are read back and checked; the version is made last, in one transaction with its tags. Killed
anywhere before, there is no version; run again, it completes and makes no second one.
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
from tunesmith.registry.versions import DIGEST, EVIDENCE_FOLDER, MODEL, MODEL_FOLDER, SAID, SIGNED, STATEMENT, Statement

PAUSES = (1, 2, 4, 8)
"""Seconds, at most, before it is registered once more where others register the same model at once."""
MODEL_SIGNATURE = "model.sig"
"""Among the evidence: the signature over the model folder, which `model_signing verify` takes."""


class Registration(TypedDict):
    """reports/<model>/registration.json: the version that a model was registered as."""

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
    """Upload and sign a model folder and make it a version of ``name``. Returns the version's number.

    outcome, evidence: the gate's, and why. files: further evidence, name to text. tags: for readers and filters. Raises
    IntegrityError if the folder does not verify, here or after the upload, or the history of promotions does not hold.
    """
    own = manifest.verify(folder)
    ledger.begin(registry, name, signing)
    champion = ledger.read(registry, name, signing).sound(name).head(ledger.CHAMPION)
    statement: Statement = {
        "of": name,
        "model": folder.name,
        "digest": own.digest,
        "weights_digest": own.weights_digest,
        "run": run,
        "outcome": outcome,
        "evidence": evidence,
        "champion": champion.hash if champion else None,
        "files": {file: _sha256(text) for file, text in files.items()},
    }

    def attempt() -> str:
        key = _stated(registry, name, run, statement, signing) or _upload(
            registry, name, run, folder, statement, files, signing
        )
        all_tags = {MODEL: folder.name, **tags, STATEMENT: key}
        number = registry.ensure_version(
            name, run, digest_tag=(DIGEST, own.digest), tags=all_tags, description=description
        )
        with TemporaryDirectory() as scratch:
            made = versions.choose(registry, name, number, signing)
            versions.fetch_statement(registry, name, made, Path(scratch), signing)
        return number

    for pause in PAUSES:
        with suppress(SupersededError):  # by who registers the same at this moment
            return attempt()
        time.sleep(pause * random.random())
    return attempt()


def _stated(registry: Registry, name: str, run: str, statement: Statement, signing: Signing) -> str | None:
    """The id of the statement of this run's version, where it says this already, and all files are as it says."""
    made = next((one for one in registry.versions(name) if one.run == run and STATEMENT in one.tags), None)
    if made is None:
        return None
    with TemporaryDirectory() as scratch, suppress(IntegrityError, RegistryError):
        said = versions.fetch(registry, name, made, Path(scratch), signing).statement
        said["files"].pop(MODEL_SIGNATURE)
        del said["sequence"]
        return made.tags[STATEMENT] if said == statement else None
    return None


def _upload(
    registry: Registry,
    name: str,
    run: str,
    folder: Path,
    statement: Statement,
    files: Mapping[str, str],
    signing: Signing,
) -> str:
    """Upload the model and what is said about it, signed; read it all back and check it. Returns the statement's id."""
    signature = signatures.sign(folder, signing)
    stated: Statement = {
        **statement,
        "files": statement["files"] | {MODEL_SIGNATURE: _sha256(signature)},
        "sequence": versions.sequence(registry, run, signing) + 1,
    }
    text = json.dumps(stated, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    signed = signatures.sign_text(text, signing)
    key = versions.statement_id(text, signed)
    registry.upload(run, folder, MODEL_FOLDER)
    with TemporaryDirectory() as scratch:
        for file, content in {**files, MODEL_SIGNATURE: signature, SAID: text, SIGNED: signed}.items():
            (Path(scratch) / file).write_text(content)
        registry.upload(run, Path(scratch), f"{EVIDENCE_FOLDER}/{key}")
    with TemporaryDirectory() as scratch:
        tags = {MODEL: folder.name, DIGEST: statement["digest"], STATEMENT: key}
        planned = Version("to be made", run, tags)
        versions.fetch(registry, name, planned, Path(scratch), signing)
    return key


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def description(name: str, lineage: Lineage, sentence: str, rows: int, dataset: str) -> str:
    """What a version is, for a person who reads it in the UI; Markdown."""
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
