"""Collect the recorded facts about a model and its parents, from registered versions or from folders in models/.

Little is downloaded: the lineage of a version and the signed statement are two small files.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.core.lineage import Lineage
from tunesmith.registry import ledger, versions
from tunesmith.registry.logged_models import DIGEST_TAG
from tunesmith.registry.provenance.lineage_tree import Record
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.trust.chain import Chain
from tunesmith.registry.versions import (
    EVIDENCE_FOLDER,
    MODEL_TAG,
    STATEMENT_FILE,
    Claims,
    VersionFiles,
)

MODELS = Path("models")


class Records:
    """Records of the versions of the registered model ``name`` and of the models in the project at ``root``.

    scratch: a folder for downloads.
    """

    def __init__(self, registry: Registry, name: str, signing: Signing, root: Path, scratch: Path) -> None:
        self.registry, self.name, self.signing, self.root, self.scratch = registry, name, signing, root, scratch
        self._by_digest: dict[str, Version] | None = None
        self._chain: Chain | None = None

    def record(self, which: str) -> Record:
        """Return the record of the version that ``which`` names, or of models/<which> where no version has that name.

        Raises RegistryError where neither exists, IntegrityError where the record cannot be read.
        """
        self._chain = chain = ledger.read(self.registry, self.name, self.signing)
        try:
            version = versions.choose(self.registry, self.name, which, self.signing, chain)
        except RegistryError:
            if not (self.root / MODELS / which / lineage.NAME).is_file():
                raise
            return self._of_folder(self.root / MODELS / which)
        heads = {alias: chain.head(alias) for alias in {entry.alias: None for entry in chain.moves}}
        evidence = (
            f"{self.registry.artifacts(version.run)}/{EVIDENCE_FOLDER}/{versions.find_statement(self.name, version)}"
        )
        return replace(
            self._of_version(version),
            claims=cast("Claims", self._read(version, f"{evidence}/{STATEMENT_FILE}")),
            entries=tuple(entry for entry in chain.moves if entry.version == version.number),
            aliases=tuple(alias for alias, head in heads.items() if head and head.version == version.number),
            faults=tuple(chain.faults),
        )

    def fetch(self, version: Version) -> VersionFiles:
        """Fetch and verify a version's files; raises as `versions.fetch` does."""
        return versions.fetch(self.registry, self.name, version, self._place(version), self.signing, self._chain)

    def fetch_claims(self, version: Version) -> tuple[Claims, str]:
        """Fetch and verify the signed statement about a version. Returns its claims and the signer."""
        statement, signer, _ = versions.fetch_statement(
            self.registry, self.name, version, self._place(version), self.signing, self._chain
        )
        return statement.claims, signer

    def _of_version(self, version: Version) -> Record:
        origin = cast("Lineage", self._read(version, f"{version.model}/{lineage.NAME}"))
        title = f"{self.name} version {version.number}"
        parents = self._parents(origin)
        return Record(
            version.tags.get(MODEL_TAG, ""), title, version, version.tags[DIGEST_TAG], origin, parents=parents
        )

    def _of_folder(self, folder: Path) -> Record:
        origin, digest = lineage.read(folder), manifest.read(folder).digest
        title = f"{folder.relative_to(self.root)}, as it is on disk"
        return Record(folder.name, title, folder, digest, origin, parents=self._parents(origin))

    def _parents(self, origin: Lineage) -> tuple[Record, ...]:
        """Return records of the trained models that this one was made from, or is an adapter on; not of the base."""
        on = {origin["on"]["model"]: origin["on"]} if "on" in origin else {}
        digests = {name: model["digest"] for name, model in {**on, **origin.get("parents", {})}.items()}
        base = origin["base"]["digest"]
        return tuple(self._parent(name, digest) for name, digest in digests.items() if digest != base)

    def _parent(self, model: str, digest: str) -> Record:
        folder = self.root / MODELS / Path(model).name
        if (folder / manifest.NAME).is_file() and manifest.read(folder).digest == digest:
            return self._of_folder(folder)
        if self._by_digest is None:
            tagged = (v for v in self.registry.versions(self.name) if DIGEST_TAG in v.tags)
            self._by_digest = {version.tags[DIGEST_TAG]: version for version in tagged}
        if digest in self._by_digest:
            return self._of_version(self._by_digest[digest])
        return Record(model, "neither in models/ nor registered", None, digest, None)

    def _read(self, version: Version, address: str) -> object:
        """Read a small JSON file of a version, at an address. Raises IntegrityError where it cannot be read."""
        try:
            return json.loads(self.registry.download(address, self._place(version)).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise IntegrityError(
                f"{self.name} version {version.number}: {address} cannot be read: {error}",
                fix="find out who changed it; register the model again from models/",
            ) from None

    def _place(self, version: Version) -> Path:
        place = self.scratch / version.run
        place.mkdir(parents=True, exist_ok=True)
        return place
