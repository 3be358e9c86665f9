"""What can be known of a model: from its registered version, or from its folder here, and so for its parents.

Little is downloaded: the lineage of a version, and what was signed about it, are two small files.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.core.lineage import Lineage
from tunesmith.registry import ledger, versions
from tunesmith.registry.provenance.lineage_tree import Record
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.versions import DIGEST, EVIDENCE_FOLDER, MODEL, MODEL_FOLDER, SAID, STATEMENT, Fetched

MODELS = Path("models")


class Known:
    """Versions of the registered model ``name``, and models of the project at ``root``; scratch: for downloads."""

    def __init__(self, registry: Registry, name: str, signing: Signing, root: Path, scratch: Path) -> None:
        self.registry, self.name, self.signing, self.root, self.scratch = registry, name, signing, root, scratch
        self._by_digest: dict[str, Version] | None = None

    def record(self, which: str) -> Record:
        """Of the version that ``which`` names; of models/<which>, where that was never registered.

        Raises RegistryError where there is neither, IntegrityError where what is recorded cannot be read.
        """
        chain = ledger.read(self.registry, self.name, self.signing)
        try:
            version = versions.choose(self.registry, self.name, which, self.signing, chain)
        except RegistryError:
            if not (self.root / MODELS / which / lineage.NAME).is_file():
                raise
            return self._of_folder(self.root / MODELS / which)
        heads = {entry.alias: chain.head(entry.alias) for entry in chain.entries}
        return replace(
            self._of_version(version),
            statement=self._read(version, f"{EVIDENCE_FOLDER}/{version.tags[STATEMENT]}/{SAID}"),
            entries=tuple(entry for entry in chain.entries if entry.version == version.number),
            aliases=tuple(alias for alias, head in heads.items() if head and head.version == version.number),
            faults=tuple(chain.faults),
        )

    def fetch(self, version: Version) -> Fetched:
        """Its files, verified; raises as `versions.fetch` does."""
        return versions.fetch(self.registry, self.name, version, self._place(version), self.signing)

    def signed(self, version: Version) -> tuple[dict[str, Any], str]:
        """What was signed about it, and by whom, verified."""
        statement, signer, _ = versions.fetch_statement(
            self.registry, self.name, version, self._place(version), self.signing
        )
        return statement, signer

    def _of_version(self, version: Version) -> Record:
        origin = self._read(version, f"{MODEL_FOLDER}/{lineage.NAME}")
        title = f"{self.name} version {version.number}"
        parents = self._parents(origin)
        return Record(version.tags.get(MODEL, ""), title, version, version.tags[DIGEST], origin, parents=parents)

    def _of_folder(self, folder: Path) -> Record:
        origin, digest = lineage.read(folder), manifest.read(folder).digest
        title = f"{folder.relative_to(self.root)}, as it is here"
        return Record(folder.name, title, folder, digest, origin, parents=self._parents(origin))

    def _parents(self, origin: Lineage) -> tuple[Record, ...]:
        """The trained models that this one was made from, or whose weights it is on; the base is no parent."""
        on = {origin["on"]["model"]: origin["on"]} if "on" in origin else {}
        named = {**on, **origin.get("parents", {})}
        base = origin["base"]["digest"]
        return tuple(self._parent(name, one["digest"]) for name, one in named.items() if one["digest"] != base)

    def _parent(self, model: str, digest: str) -> Record:
        folder = self.root / MODELS / Path(model).name
        if (folder / manifest.NAME).is_file() and manifest.read(folder).digest == digest:
            return self._of_folder(folder)
        if self._by_digest is None:
            known = self.registry.versions(self.name)
            self._by_digest = {version.tags[DIGEST]: version for version in known if DIGEST in version.tags}
        if digest in self._by_digest:
            return self._of_version(self._by_digest[digest])
        return Record(model, "neither here nor registered", None, digest, None)

    def _read(self, version: Version, path: str) -> dict[str, Any]:
        """A small JSON file of a version. Raises IntegrityError where it is none."""
        try:
            found: dict[str, Any] = json.loads(
                self.registry.download(version.run, path, self._place(version)).read_text()
            )
            return found
        except (OSError, ValueError) as error:
            raise IntegrityError(
                f"{self.name} version {version.number}: {path} cannot be read: {error}",
                fix="find out who changed it; register the model again from models/",
            ) from None

    def _place(self, version: Version) -> Path:
        place = self.scratch / version.run
        place.mkdir(parents=True, exist_ok=True)
        return place
