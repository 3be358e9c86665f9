"""Registering a model, promoting a version to champion, and the history of promotions.

The alias ``champion`` of the registered model says what to deploy. A promotion checks every byte of the version
against the digest it was evaluated under, moves the alias, and appends to the history, which is kept as tags of the
registered model, so that everyone on the same server sees it.
"""

import json
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunesmith import manifest
from tunesmith.errors import IntegrityError, RegistryError
from tunesmith.registry import Registry, Version, who

CHAMPION = "champion"
DIGEST, MODEL, VERDICT, EVIDENCE = "tunesmith.digest", "tunesmith.model", "tunesmith.verdict", "tunesmith.evidence"
ENTRY = "tunesmith.promotion."
"""Tags of the history: this, then the time in nanoseconds, which orders them."""


@dataclass(frozen=True)
class Promotion:
    """A line of the history. version, previous: version numbers; digest: of the model folder's manifest."""

    when: str
    who: str
    model: str
    version: str
    previous: str | None
    why: str
    evidence: str
    digest: str


def register(registry: Registry, name: str, run: str, folder: Path, *, tags: dict[str, str], description: str) -> str:
    """Upload a verified model folder to ``run``, read it back, and make it a version of ``name``.

    Running it again for the same folder and run makes no second version. Returns the version's number.
    Raises IntegrityError if the folder does not verify, here or after the upload.
    """
    digest = manifest.verify(folder).digest
    registry.upload(run, folder, "model")
    number = registry.version(name, run, digest_tag=(DIGEST, digest), tags=tags, description=description)
    _verify_artifact(registry, name, next(v for v in registry.versions(name) if v.number == number))
    return number


def promote(registry: Registry, name: str, which: str, *, reason: str | None) -> Promotion:
    """Make a version the champion. ``which``: a model's name, such as ``sft-lora`` (its newest version), or a number.

    Raises RegistryError where there is no such version, or it did not pass the gate and no reason is given to promote
    it all the same; IntegrityError where its bytes are not those that were evaluated.
    """
    version = _choose(registry, name, which)
    evidence = version.tags.get(EVIDENCE, "no evaluation is recorded")
    if version.tags.get(VERDICT) != "pass" and not reason:
        raise RegistryError(
            f"{name} version {version.number} did not pass the gate: {evidence}",
            fix="do what the gate asks for, or say why it should be promoted all the same with --reason",
        )
    digest = _verify_artifact(registry, name, version)
    champion = registry.alias(name, CHAMPION)
    recorded = history(registry, name)[-1:]
    if champion == version.number and recorded and recorded[0].version == champion:
        raise RegistryError(f"{name} version {version.number} is the champion already", fix="nothing to do")
    promotion = Promotion(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        who=who(),
        model=version.tags.get(MODEL, ""),
        version=version.number,
        # A champion that the history does not know is a promotion that was cut short here: it is recorded now.
        previous=recorded[0].version if champion == version.number and recorded else champion,
        why=reason or "passed the gate",
        evidence=evidence,
        digest=digest,
    )
    registry.move_alias(name, CHAMPION, version.number)
    registry.tag(name, f"{ENTRY}{time.time_ns()}.{uuid.uuid4().hex[:8]}", json.dumps(asdict(promotion)))
    return promotion


def history(registry: Registry, name: str) -> list[Promotion]:
    """Every promotion, oldest first."""
    entries = sorted((tag, value) for tag, value in registry.tags(name).items() if tag.startswith(ENTRY))
    return [Promotion(**json.loads(value)) for _, value in entries]


def description(name: str, lineage: dict[str, Any], sentence: str, rows: int, dataset: str) -> str:
    """What a version is, for a person who reads it in the UI; Markdown."""
    code = lineage["code"]
    commit = f"commit `{code['commit'][:12]}`" if code["commit"] else "no git checkout"
    dirty = "" if code["clean"] else ", **with uncommitted changes**"
    return (
        f"**{sentence}**\n\n"
        f"- trained on {rows} rows of `{dataset}` from {lineage['base']['source'].split(' sha256:')[0]}\n"
        f"- code: {commit}{dirty}; hardware: {lineage['hardware']['device']}\n"
        f"- the run's artifacts hold `model/lineage.json`, `samples.json` and `comparison.html`\n"
        f"- promote it with `tunesmith promote {name}`\n"
    )


def _choose(registry: Registry, name: str, which: str) -> Version:
    """The version that ``which`` names, if it is one that can be checked."""
    versions = registry.versions(name)
    version = next((v for v in versions if which in (v.number, v.tags.get(MODEL))), None)
    if version is None:
        known = ", ".join(f"{v.tags.get(MODEL)} (version {v.number})" for v in versions) or "none"
        raise RegistryError(
            f"{name} has no version {which!r} at {registry.uri}; registered: {known}",
            fix=f"register it with `dvc repro --force --single-item register@{which}`",
        )
    if DIGEST not in version.tags:
        raise RegistryError(
            f"{name} version {version.number} was not registered by this pipeline: what it is cannot be checked",
            fix="register the model with `dvc repro`, which evaluates it and records its digest",
        )
    return version


def _verify_artifact(registry: Registry, name: str, version: Version) -> str:
    """The digest of a version's artifact, every byte checked against it."""
    with TemporaryDirectory() as scratch:
        digest = manifest.verify(registry.download(version, Path(scratch))).digest
    if digest != version.tags[DIGEST]:
        raise IntegrityError(
            f"{name} version {version.number}: its artifact has digest {digest[:12]}, not the registered "
            f"{version.tags[DIGEST][:12]}: it was changed after registration",
            fix="find out who changed it; register the model again from models/",
        )
    return digest
