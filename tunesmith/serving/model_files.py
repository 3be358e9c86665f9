"""The files of a model that is to be served, on this machine: brought once, checked to the last byte every time."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith.core import files, lineage, manifest, params
from tunesmith.core.errors import IntegrityError, ServingError
from tunesmith.core.lineage import Lineage, WeightsUnder
from tunesmith.models import base_sources
from tunesmith.registry import versions
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.servable import ADAPTER
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.tracker import Names
from tunesmith.registry.versions import DIGEST_TAG, MODEL_FOLDER, VersionFiles
from tunesmith.serving import model_cache

MODELS = Path("models")


def fetch(registry: Registry, name: str, version: Version, evidence: Path, signing: Signing) -> VersionFiles:
    """A version's files, verified; the model from the cache where it is there. evidence: a folder for what was signed.

    Raises what `versions.fetch` raises.
    """
    statement, signer, signed = versions.fetch_statement(registry, name, version, evidence, signing)
    digest = statement.claims["digest"]  # signed, so no path of somebody else's making
    place = model_cache.hold(digest)
    if not _is_whole(place / MODEL_FOLDER, digest):
        with files.new_folder(place) as work:
            versions.fetch(registry, name, version, work, signing)
    return VersionFiles(version, place / MODEL_FOLDER, signed, digest, statement.claims, signer)


def full_weights(folder: Path) -> Path:
    """The verified folder of the full weights that the model in ``folder`` is on; its own, where it is no adapter.

    Looked for by digest in models/ and the cache, then at its source: the base's, or this project's registry. Raises
    ServingError where it is not to be had, IntegrityError where it is not what the model was trained on.
    """
    if not (folder / ADAPTER).exists():
        return folder
    origin = lineage.read(folder)
    digest = origin["on"]["digest"]
    found = next((place for place in _places(digest) if _is_whole(place, digest)), None)
    return found or (_fetch_base(origin) if digest == origin["base"]["digest"] else _fetch_trained(origin["on"]))


def _places(digest: str) -> Iterator[Path]:
    yield from sorted(path.parent for path in MODELS.glob(f"*/{manifest.NAME}"))
    yield model_cache.base(digest)
    if model_cache.version(digest).exists():
        yield model_cache.hold(digest) / MODEL_FOLDER


def _is_whole(folder: Path, digest: str) -> bool:
    try:  # the manifest's own digest first: it takes no reading of weights
        return manifest.read(folder).digest == digest and manifest.verify(folder).digest == digest
    except IntegrityError:
        return False


def _fetch_base(origin: Lineage) -> Path:
    """The base from where params.yaml says, if that is what the model was trained on."""
    from tunesmith.models import base_model  # imports torch

    wanted, source = origin["base"], params.load(base_sources.Source, "base_model").root
    if base_sources.identify(source) != wanted["source"]:
        raise ServingError(
            f"the base that the model was trained on is not here, and params.yaml pins another: {wanted['source']}, "
            f"digest {wanted['digest'][:12]}",
            fix=f"bring it into models/ (`git checkout {origin['code']['commit']}`, then `dvc repro fetch_base`)",
        )
    place = model_cache.base(str(wanted["digest"]))
    found = base_model.fetch(source, place).digest
    if found != wanted["digest"]:
        raise IntegrityError(
            f"{place}: {wanted['source']} came with digest {found[:12]}, not {wanted['digest'][:12]}, which the model "
            "was trained on",
            fix="install the libraries of requirements.lock, which write it as it was, or bring that base into models/",
        )
    return place


def _fetch_trained(wanted: WeightsUnder) -> Path:
    """A registered version with these weights."""
    names, signing = params.load(Names, "registry"), params.load(Settings, "signing").root
    registry = Registry(names.experiment)
    digest = str(wanted["digest"])
    version = next((each for each in registry.versions(names.model) if each.tags.get(DIGEST_TAG) == digest), None)
    if version is None:
        raise ServingError(
            f"it is an adapter on the weights of {wanted['model']}, digest {digest[:12]}, which are neither in models/ "
            f"nor registered as {names.model}",
            fix=f"register them (`dvc repro register@{wanted['model']}`), or merge the adapter (package.merged)",
        )
    place = model_cache.hold(digest)
    with files.new_folder(place) as work:
        versions.fetch(registry, names.model, version, work, signing)
    return place / MODEL_FOLDER
