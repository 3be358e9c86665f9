"""Local files of a model to serve: fetched once, and every byte checked at every start."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tunesmith.core import files, lineage, manifest, params
from tunesmith.core.errors import IntegrityError, ServingError
from tunesmith.core.lineage import Lineage, WeightsUnder
from tunesmith.models import base_sources
from tunesmith.registry import ledger, versions
from tunesmith.registry.logged_models import DIGEST_TAG, MODEL_FOLDER
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.servable import ADAPTER
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.tracker import Names
from tunesmith.registry.versions import VersionFiles
from tunesmith.serving import model_cache

MODELS = Path("models")


def fetch(registry: Registry, name: str, version: Version, evidence: Path, signing: Signing) -> VersionFiles:
    """Return a version's verified files, the model from the cache where possible.

    evidence: a folder for the signed statement and the files that it covers. Raises what `versions.fetch` raises.
    """
    chain = ledger.read(registry, name, signing).verified(name)
    statement, signer, signed_files = versions.fetch_statement(registry, name, version, evidence, signing, chain)
    digest = statement.claims["digest"]  # signed, so safe as a part of a path
    place = model_cache.hold(digest)
    if not _is_intact(place / MODEL_FOLDER, digest):
        with files.new_folder(place) as work:
            versions.fetch(registry, name, version, work, signing, chain)
    return VersionFiles(version, place / MODEL_FOLDER, signed_files, digest, statement.claims, signer)


def full_weights(folder: Path, loaded: Mapping[str, Path] = {}) -> Path:
    """Return the verified folder of the full weights under the adapter in ``folder``, or ``folder`` for full weights.

    loaded: the folders of weights that engines hold, by digest, which are not read again. Others are looked up by
    digest in models/ and in the cache, then fetched from the base's source or this project's registry. Raises
    ServingError where they are unavailable, IntegrityError where the adapter was trained on others.
    """
    if not (folder / ADAPTER).exists():
        return folder
    origin = lineage.read(folder)
    digest = origin["on"]["digest"]
    if digest in loaded:
        return loaded[digest]
    local = next((place for place in _local_folders(digest) if _is_intact(place, digest)), None)
    return local or (_fetch_base(origin) if digest == origin["base"]["digest"] else _fetch_trained(origin["on"]))


def _local_folders(digest: str) -> Iterator[Path]:
    """Yield the folders that may hold a model with this digest."""
    yield from sorted(path.parent for path in MODELS.glob(f"*/{manifest.NAME}"))
    yield model_cache.base_folder(digest)
    if model_cache.version_folder(digest).exists():
        yield model_cache.hold(digest) / MODEL_FOLDER


def _is_intact(folder: Path, digest: str) -> bool:
    try:  # the manifest's own digest first, which takes no reading of weights
        return manifest.read(folder).digest == digest and manifest.verify(folder).digest == digest
    except IntegrityError:
        return False


def _fetch_base(origin: Lineage) -> Path:
    """Fetch the base from the source in params.yaml, if the model was trained on that base."""
    from tunesmith.models.base import base_model  # imports torch

    base, source = origin["base"], params.load(base_sources.Source, "base_model").root
    if base_sources.identify(source) != base["source"]:
        raise ServingError(
            f"the base that the model was trained on is not here, and params.yaml pins another: {base['source']}, "
            f"digest {base['digest'][:12]}",
            fix=f"bring it into models/ (`git checkout {origin['code']['commit']}`, then `dvc repro fetch_base`)",
        )
    place = model_cache.base_folder(base["digest"])
    kwargs = base.get("chat_template_kwargs", {})  # those of params.yaml may have changed since
    digest = base_model.fetch(source.model_copy(update={"chat_template_kwargs": kwargs}), place).digest
    if digest != base["digest"]:
        raise IntegrityError(
            f"{place}: {base['source']} came with digest {digest[:12]}, not {base['digest'][:12]}, which the model was "
            "trained on",
            fix="install the libraries that wrote that base (`tunesmith lineage` names them), or bring it into models/",
        )
    return place


def _fetch_trained(weights: WeightsUnder) -> Path:
    """Fetch the registered version that holds these full weights."""
    names, signing = params.load(Names, "registry"), params.load(Settings, "signing").root
    registry = Registry()
    digest = weights["digest"]
    version = next((v for v in registry.versions(names.model) if v.tags.get(DIGEST_TAG) == digest), None)
    if version is None:
        raise ServingError(
            f"the adapter is on the weights of {weights['model']}, digest {digest[:12]}, which are neither in models/ "
            f"nor registered as {names.model}",
            fix="register them (`dvc repro register`), or merge the adapter (package.merged)",
        )
    place = model_cache.hold(digest)
    chain = ledger.read(registry, names.model, signing).verified(names.model)
    with files.new_folder(place) as work:
        versions.fetch(registry, names.model, version, work, signing, chain)
    return place / MODEL_FOLDER
