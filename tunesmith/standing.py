"""A candidate that runs, and where its requests go."""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from tunesmith import serving
from tunesmith.inference import Engine
from tunesmith.proxy import Upstream
from tunesmith.servers import Serve
from tunesmith.serving import Candidate


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
        engine = until.enter_context(serving.proven(candidate, settings))
        about = {
            "version": candidate.version,
            "trained": candidate.model,
            "digest": candidate.digest,
            "engine": engine.kind,
            "dtype": candidate.served.dtype,
        }
        return Standing(candidate, engine, Upstream(engine.url, engine.name, about), until.pop_all())
