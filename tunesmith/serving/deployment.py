"""A deployment: a verified version that answers its probes, on its engine, as in the evaluation.

One that answers differently is refused.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tunesmith.core.errors import EngineError, ServingError
from tunesmith.models.engines import process
from tunesmith.models.engines.settings import Engine as Places
from tunesmith.registry.versions import VersionFiles
from tunesmith.serving import candidates, engine_commands, probes
from tunesmith.serving.attended import Attend, attended
from tunesmith.serving.candidates import Candidate
from tunesmith.serving.engine import Engine
from tunesmith.serving.engines import Engines
from tunesmith.serving.gateway.proxy import Upstream
from tunesmith.serving.probes import Probe
from tunesmith.serving.settings import Serve

MAX_MISSED = 3
"""Health checks missed in a row after which an engine counts as hung; a busy machine may explain fewer."""
AT_ONCE = 8
"""Maximum number of probes in flight at vLLM: all at once would delay the requests of the served version."""


@dataclass(frozen=True)
class Deployment:
    """A candidate on a running engine that has answered the probes."""

    candidate: Candidate
    engine: Engine
    upstream: Upstream
    resources: ExitStack
    """The version's place on the engine; closing it unloads the version, and stops an engine without another."""

    def __str__(self) -> str:
        return f"{self.candidate}, by {self.engine.kind} in {self.candidate.served.dtype}"

    def check_health(self, stall_seconds: float) -> None:
        """Check the engine, once a poll. Raises EngineError if it ended, or hung and was killed.

        stall_seconds: time for which it may generate nothing.
        """
        self.engine.check_process()
        upstream = self.upstream
        upstream.missed_checks = 0 if self.engine.process.is_healthy() else upstream.missed_checks + 1
        hung, silence = None, upstream.silence()
        if silence > stall_seconds:
            hung = f"generated nothing for {silence:.0f} s (serve.stall_seconds: {stall_seconds:g})"
        elif upstream.missed_checks >= MAX_MISSED:
            hung = f"missed {MAX_MISSED} health checks in a row, each with a timeout of {process.HEALTH_TIMEOUT:g} s,"
        if hung:
            self.engine.kill()
            raise EngineError(
                f"{upstream.name}: {self.engine.kind} {hung} and was killed; its last lines:\n"
                f"{self.engine.process.tail()}",
                fix="if it happens again, find out what it waits for, such as a GPU, or memory that is swapped out",
            )

    def drain(self, seconds: float) -> int:
        """Stop after the last request, or after ``seconds``. Returns the number of requests that are not answered.

        On an engine that others use these go on, and the version stays loaded.
        """
        deadline = time.monotonic() + seconds
        while self.upstream.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.upstream.in_flight
        if not left or not self.engine.is_shared:
            self.stop()
        return left

    def stop(self) -> None:
        """Unload the version at once, or stop its engine where that has no other."""
        self.resources.close()


def start(candidate: Candidate, engines: Engines, attend: Attend | None = None) -> Deployment:
    """Start a candidate on an engine, probe it, and return the deployment. Raises what `probed_engine` raises.

    attend: called while this waits.
    """
    with ExitStack() as resources:
        engine = resources.enter_context(probed_engine(candidate, engines, attend))
        upstream = Upstream(
            engine.process.socket,
            candidate.served.name,
            served={
                "version": candidate.version,
                "trained": candidate.model,
                "digest": candidate.digest,
                "engine": engine.kind,
                "dtype": candidate.served.dtype,
            },
            reader=engine.reader,
            template_kwargs=candidate.probes.get("chat_template_kwargs", []),
        )
        return Deployment(candidate, engine, upstream, resources.pop_all())


def probe(fetched: VersionFiles, settings: Serve, places: Places | None = None) -> None:
    """Start a fetched version on an engine of its own, probe it, and stop it.

    The engine takes the free memory of a GPU, up to `Serve.gpu_memory_share`: a server may be running there. Raises
    ServingError where it does not answer as in the evaluation, and what `read_candidate` and `Engines.serving` raise.
    """
    candidate, places = candidates.read_candidate(fetched), places or Places()
    environment = engine_commands.choose(settings, places)
    if environment is not None and environment.build == "cuda":
        share = engine_commands.free_share(settings.gpu_memory_share)
        settings = settings.model_copy(update={"gpu_memory_share": share})
    with probed_engine(candidate, Engines(settings, places)):
        pass


@contextmanager
def probed_engine(candidate: Candidate, engines: Engines, attend: Attend | None = None) -> Iterator[Engine]:
    """Yield an engine that serves a candidate while the block runs, once it has answered the probes.

    Raises ServingError where it answers otherwise, and what `Engines.serving` raises.
    """
    with engines.serving(candidate, attend) as engine:
        attended(lambda: _check_answers(engine, candidate, engines.settings.start_seconds), attend)
        yield engine


def _check_answers(engine: Engine, candidate: Candidate, timeout: float) -> None:
    name, signed = candidate.served.name, candidate.probes

    def answer(probe: Probe) -> str:
        kwargs, tools = probe.get("chat_template_kwargs"), probe.get("tools")
        images = signed.get("images", {})
        return engine.answer(name, probe["prompt"], probe["max_new_tokens"], timeout, kwargs, tools, images)

    together = 1 if engine.kind == "transformers" else AT_ONCE
    replies = _answers(answer, signed["probes"], together)
    reason = probes.judge(signed, replies)
    if reason and engine.kind != signed.get("engine", "transformers"):
        # An engine other than the evaluation's has noise of its own; one by one, it computes in other batches.
        reason = probes.judge(signed, replies, _answers(answer, signed["probes"], 1))
    if reason:
        raise ServingError(
            f"{name}, served by {engine.kind}: {reason}",
            fix="install the libraries of its evaluation (`tunesmith lineage` names them); where a sound model is "
            "refused, let the evaluation measure its noise as servers compute, one by one "
            "(evaluate.noise_batch_size: 1), and register it again",
        )


def _answers(answer: Callable[[Probe], str], questions: Sequence[Probe], at_once: int) -> list[str]:
    """Return the answers to probes. at_once: the number that are asked, and so computed, together."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(answer, questions))
