"""A deployment: a verified version in a running engine that answers its probes as in the evaluation.

A version is fetched into a `Candidate`, whose engine is started and probed; one that answers differently is refused.
"""

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, ServingError
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import download_folder
from tunesmith.registry.versions import VersionFiles
from tunesmith.serving import engine, model_cache, model_files, probes
from tunesmith.serving.attended import Attend, attended
from tunesmith.serving.engine import Engine
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.gateway.proxy import Upstream
from tunesmith.serving.probes import Probe, Probes
from tunesmith.serving.settings import Serve


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
        """Check every byte again, by default where it was fetched to. Raises IntegrityError."""
        served = served or self.served
        for folder, digest in ((served.folder, self.digest), (served.full_weights, self.full_weights_digest)):
            if manifest.verify(folder).digest != digest:
                raise IntegrityError(f"{folder}: changed since it was verified", fix="find out who changed it")

    def linked(self, into: Path) -> ServedModel:
        """Return the model by files in ``into`` that stay when a file of the cache or of models/ is replaced."""
        folders = {self.served.folder: into / "model"}
        folders.setdefault(self.served.full_weights, into / "weights")
        for source, target in folders.items():
            shutil.copytree(source, target, copy_function=model_cache.link_or_copy)
        return replace(self.served, folder=into / "model", full_weights=folders[self.served.full_weights])


@dataclass(frozen=True)
class Deployment:
    """A candidate in a running engine that has answered the probes."""

    candidate: Candidate
    engine: Engine
    upstream: Upstream
    resources: ExitStack
    """The engine's process and files; closing it ends them."""

    def __str__(self) -> str:
        return f"{self.candidate}, by {self.engine.kind} in {self.candidate.served.dtype}"

    def drain(self, seconds: float) -> int:
        """Stop the engine after its last request, or after ``seconds``. Returns how many requests were cut off."""
        deadline = time.monotonic() + seconds
        while self.upstream.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        lost = self.upstream.in_flight
        self.stop()
        return lost

    def stop(self) -> None:
        """Stop the engine at once."""
        self.resources.close()


def fetch(registry: Registry, name: str, version: Version, signing: Signing) -> Candidate:
    """Fetch a version as a candidate. Raises what `model_files.fetch` and `read_candidate` raise."""
    with download_folder() as scratch:
        return read_candidate(model_files.fetch(registry, name, version, Path(scratch), signing))


def read_candidate(fetched: VersionFiles) -> Candidate:
    """Read the probes of a fetched version and find the full weights under it.

    Raises ServingError where either is missing, IntegrityError where the weights are not those it was trained on.
    """
    path, claims = fetched.evidence / probes.NAME, fetched.claims
    if not path.exists():
        raise ServingError(
            f"version {fetched.version.number} of {claims['of']} was registered without probes",
            fix="register it again: `dvc repro --force --single-item register`",
        )
    signed_probes: Probes = json.loads(path.read_text())
    full_weights = model_files.full_weights(fetched.folder)
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


def start(candidate: Candidate, settings: Serve, attend: Attend | None = None) -> Deployment:
    """Start the engine of a candidate, probe it, and return the deployment. Raises ServingError as `probe` does.

    attend: called while this waits.
    """
    from tunesmith.serving.gateway import prompts  # imports transformers

    with ExitStack() as resources:
        engine = resources.enter_context(probed_engine(candidate, settings, attend))
        upstream = Upstream(
            engine.socket,
            engine.name,
            served={
                "version": candidate.version,
                "trained": candidate.model,
                "digest": candidate.digest,
                "engine": engine.kind,
                "dtype": candidate.served.dtype,
            },
            reader=prompts.reader(candidate.served, settings),
            template_kwargs=candidate.probes.get("chat_template_kwargs", []),
        )
        return Deployment(candidate, engine, upstream, resources.pop_all())


def probe(fetched: VersionFiles, settings: Serve) -> None:
    """Start a fetched version, probe it, and stop it.

    Raises ServingError where it does not start, or does not answer as in the evaluation, and what `read_candidate`
    raises.
    """
    with probed_engine(read_candidate(fetched), settings):
        pass


@contextmanager
def probed_engine(candidate: Candidate, settings: Serve, attend: Attend | None = None) -> Iterator[Engine]:
    """Start the engine of a candidate, probe it, and yield it; it stops with the block. Raises ServingError."""
    with (
        model_cache.private_folder() as private,
        engine.running(served := candidate.linked(private), settings, attend) as running,
    ):
        # What was loaded: the files may have changed on their way.
        attended(lambda: candidate.verify(served), attend)
        attended(lambda: _check_answers(running, candidate.probes, settings.start_seconds), attend)
        yield running


def _check_answers(running: Engine, signed_probes: Probes, timeout: float) -> None:
    def answer(probe: Probe) -> str:
        kwargs = probe.get("chat_template_kwargs")
        return running.answer(probe["prompt"], probe["max_new_tokens"], timeout, kwargs, probe.get("tools"))

    replies, again = [answer(probe) for probe in signed_probes["probes"]], None
    if running.kind != "transformers":  # an engine other than the evaluation's has noise of its own
        with ThreadPoolExecutor(len(replies)) as pool:
            again = list(pool.map(answer, signed_probes["probes"]))  # all at once, and so in other batches
    if reason := probes.judge(signed_probes, replies, again):
        raise ServingError(
            f"{running.name}, served by {running.kind}: {reason}",
            fix="install the libraries of its evaluation (`tunesmith lineage` names them); where a sound model is "
            "refused, let the evaluation measure its noise as servers compute, one by one "
            "(evaluate.noise_batch_size: 1), and register it again",
        )
