"""A candidate: a version that was fetched and verified, ready to be started."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, ServingError
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import download_folder
from tunesmith.registry.versions import VersionFiles
from tunesmith.serving import model_cache, model_files, probes
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.probes import Probes


@dataclass(frozen=True)
class Candidate:
    """A verified version, ready to be started."""

    served: ServedModel
    probes: Probes
    version: str
    """The number of the version."""
    model: str
    """The name of the model, such as sft-lora."""
    digest: str
    """The digest of the model folder's manifest."""
    full_weights_digest: str
    """The digest of the full weights under an adapter; otherwise the model's own."""

    def __str__(self) -> str:
        return f"version {self.version} ({self.model}), digest {self.digest}"

    def verify(self, served: ServedModel | None = None) -> None:
        """Check every byte again, by default of the fetched files. Raises IntegrityError."""
        served = served or self.served
        self.verify_model(served.folder)
        _verify(served.full_weights, self.full_weights_digest)

    def verify_model(self, folder: Path) -> None:
        """Check every byte of a copy of the model folder. Raises IntegrityError."""
        _verify(folder, self.digest)

    def linked(self, into: Path) -> ServedModel:
        """Return the model with its files linked in ``into``, where they stay when the cache or models/ changes."""
        folder = self.linked_model(into)
        if self.served.full_weights == self.served.folder:
            return replace(self.served, folder=folder, full_weights=folder)
        return replace(self.served, folder=folder, full_weights=_linked(self.served.full_weights, into / "weights"))

    def linked_model(self, into: Path) -> Path:
        """Link the model folder only, without the full weights under an adapter, and return the copy."""
        return _linked(self.served.folder, into / "model")


def fetch(
    registry: Registry, name: str, version: Version, signing: Signing, loaded: Mapping[str, Path] = {}
) -> Candidate:
    """Fetch a version as a candidate. Raises what `model_files.fetch` and `read_candidate` raise.

    loaded: as `model_files.full_weights` takes it.
    """
    with download_folder() as scratch:
        return read_candidate(model_files.fetch(registry, name, version, Path(scratch), signing), loaded)


def read_candidate(fetched: VersionFiles, loaded: Mapping[str, Path] = {}) -> Candidate:
    """Read the probes of a fetched version and find the full weights under it.

    loaded: as `model_files.full_weights` takes it. Raises ServingError where either is missing, IntegrityError where
    the weights are not those it was trained on.
    """
    path, claims = fetched.evidence / probes.NAME, fetched.claims
    if not path.exists():
        raise ServingError(
            f"version {fetched.version.number} of {claims['of']} was registered without probes",
            fix="register it again: `dvc repro --force --single-item register`",
        )
    signed_probes: Probes = json.loads(path.read_text())
    full_weights = model_files.full_weights(fetched.folder, loaded)
    served = ServedModel(
        name=f"{claims['of']}@{fetched.version.number}",
        folder=fetched.folder,
        full_weights=full_weights,
        dtype=signed_probes["dtype"],
    )
    return Candidate(
        served,
        signed_probes,
        version=fetched.version.number,
        model=claims["model"],
        digest=fetched.digest,
        full_weights_digest=manifest.read(full_weights).digest,
    )


def _verify(folder: Path, digest: str) -> None:
    if manifest.verify(folder).digest != digest:
        raise IntegrityError(f"{folder}: changed since it was verified", fix="find out who changed it")


def _linked(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, copy_function=model_cache.link_or_copy)
    return target
