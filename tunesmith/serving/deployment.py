"""A verified version as a server of its own, which answers its probes as in its evaluation, or is refused."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, ServingError
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.versions import VersionFiles
from tunesmith.serving import engine, model_files, probes
from tunesmith.serving.engine import Engine
from tunesmith.serving.engine_commands import Served
from tunesmith.serving.probes import Probes
from tunesmith.serving.proxy import Upstream
from tunesmith.serving.settings import Serve


@dataclass(frozen=True)
class Candidate:
    """A verified version, ready to be started. model: such as sft-lora. under: digest of the full weights it is on."""

    served: Served
    probes: Probes
    version: str
    model: str
    digest: str
    under: str

    def __str__(self) -> str:
        return f"version {self.version} ({self.model}), digest {self.digest}"

    def verify(self) -> None:
        """Check every byte again. Raises IntegrityError."""
        for folder, digest in ((self.served.folder, self.digest), (self.served.on, self.under)):
            if manifest.verify(folder).digest != digest:
                raise IntegrityError(f"{folder}: changed since it was verified", fix="find out who changed it")


def probe(fetched: VersionFiles, settings: Serve) -> None:
    """Serve a version for a moment. Raises ServingError where it does not answer as it was evaluated, or not at all.

    Raises IntegrityError where the weights under it are not those it was trained on.
    """
    with proven(candidate(fetched), settings):
        pass


def fetch(registry: Registry, name: str, version: Version, signing: Signing) -> Candidate:
    """The candidate that a version is, brought here. Raises what `local_models.fetch` and `candidate` raise."""
    with TemporaryDirectory() as scratch:
        return candidate(model_files.fetch(registry, name, version, Path(scratch), signing))


def candidate(fetched: VersionFiles) -> Candidate:
    """A fetched version with the weights under it. Raises ServingError where those, or its probes, cannot be had."""
    path, said = fetched.evidence / probes.NAME, fetched.claims
    if not path.exists():
        raise ServingError(
            f"version {fetched.version.number} of {said['of']} was registered without probes",
            fix=f"register it again: `dvc repro --force --single-item register@{said['model']}`",
        )
    told: Probes = json.loads(path.read_text())
    name, on = f"{said['of']}@{fetched.version.number}", model_files.full_weights(fetched.folder)
    served = Served(name, fetched.folder, on, told["dtype"])
    under = manifest.read(on).digest
    return Candidate(served, told, fetched.version.number, said["model"], fetched.digest, under)


@contextmanager
def proven(starting: Candidate, settings: Serve) -> Iterator[Engine]:
    """Its engine, after it has answered the probes; it ends with the block. The errors are `probe`'s."""
    with engine.running(starting.served, settings) as running:
        _prove(running, starting.probes, settings.start_seconds)
        yield running


def _prove(running: Engine, told: Probes, timeout: float) -> None:
    def answer(asked: probes.Probe) -> str:
        return running.answer(asked["prompt"], asked["max_new_tokens"], timeout)

    replies, again = [answer(asked) for asked in told["probes"]], None
    if running.kind != "transformers":  # another engine than the evaluation's has a noise of its own
        with ThreadPoolExecutor(len(replies)) as pool:
            again = list(pool.map(answer, told["probes"]))  # all at once, so in other batches
    if reason := probes.judge(told, replies, again):
        raise ServingError(
            f"{running.name}, served by {running.kind}: {reason}",
            fix="install the libraries of requirements.lock; where a sound model is refused, let the evaluation "
            "measure its noise as servers compute, one by one (evaluate.noise_batch_size: 1), and register it again",
        )


@dataclass(frozen=True)
class Standing:
    """until: ends its engine."""

    candidate: Candidate
    engine: Engine
    upstream: Upstream
    until: ExitStack

    def drain(self, seconds: float) -> int:
        """End its engine after its last request, or when the time is up. Returns how many requests were cut off."""
        deadline = time.monotonic() + seconds
        while self.upstream.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        lost = self.upstream.in_flight
        self.until.close()
        return lost

    def __str__(self) -> str:
        return f"{self.candidate}, by {self.engine.kind} in {self.candidate.served.dtype}"


def start(candidate: Candidate, settings: Serve) -> Standing:
    """It, up and proven. Raises what `serving.proven` raises."""
    with ExitStack() as until:
        engine = until.enter_context(proven(candidate, settings))
        about = {
            "version": candidate.version,
            "trained": candidate.model,
            "digest": candidate.digest,
            "engine": engine.kind,
            "dtype": candidate.served.dtype,
        }
        return Standing(candidate, engine, Upstream(engine.url, engine.name, about), until.pop_all())
