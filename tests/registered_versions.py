"""Register small model folders as versions of ``calculator``, for tests."""

from collections.abc import Mapping
from pathlib import Path

from tunesmith.core import manifest
from tunesmith.registry import ledger, registration, versions
from tunesmith.registry.mlmodel import Loading
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.runs import Experiment
from tunesmith.registry.signing import Key
from tunesmith.registry.versions import VersionFiles

SIGNING = Key(kind="key", private=None, trusted=[])
EXPERIMENT, NAME = "arithmetic", "calculator"
LOADING = Loading({"model_binary": "model"}, "float32", "3.11.0", ("transformers==5.0",))
FILES = {"probes.json": "{}", "README.md": "# A card"}


def folder(project: Path, content: bytes = b"weights" * 50, model: str = "sft-lora") -> Path:
    """Write a small model folder with a manifest."""
    path = project / "models" / model
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_model.safetensors").write_bytes(content)
    (path / "adapter_config.json").write_text('{"r": 2}')
    manifest.write(path)
    return path


def register(
    registry: Registry,
    path: Path,
    key: str = "k1",
    outcome: str = "pass",
    name: str = NAME,
    files: Mapping[str, str] = FILES,
    signing: Key = SIGNING,
) -> str:
    """Register a model folder from the run with this key and return the version's number."""
    run = Experiment(EXPERIMENT).run(key, path.name, 0, {})
    return registration.register(
        registry,
        name,
        run,
        path,
        loading=LOADING,
        outcome=outcome,
        evidence="better by 36 points",
        files=files,
        tags={"git.commit": "c0ffee"},
        description="d",
        signing=signing,
    )


def stored(registry: Registry, version: Version) -> Path:
    """Return the folder in which the tracker stores the model of a version."""
    return Path(registry.client.get_logged_model(version.source.split("/")[-2]).artifact_location, "model")


def fetch_version(registry: Registry, version: Version, into: Path, signing: Key = SIGNING) -> VersionFiles:
    """Fetch and verify a version of ``calculator``, its history included."""
    return versions.fetch(registry, NAME, version, into, signing, ledger.read(registry, NAME, signing))


def overwrite(registry: Registry, version: Version, path: Path) -> None:
    """Replace the model of a version in the tracker, as anyone with access to its artifacts can."""
    model = version.source.split("/")[-2]
    registry.client.log_model_artifacts(model, str(path), "model")


def unprobed(files: VersionFiles) -> None:
    """Accept every version without serving it; tests of serving cover the probes."""
