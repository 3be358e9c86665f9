"""The running engines: a vLLM for each base, which adapters share, and one engine for any other version.

An adapter shares an engine that was started for its full weights, in its dtype, for its rank and layers, and with the
same files that render and tokenize its prompts. It is loaded beside the others, from links that stay when a
file of the cache is replaced, and unloaded when its last deployment ends; an engine stops after its last one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tunesmith.core import manifest
from tunesmith.models.engines import commands
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.process import ServerProcess, socket_folder
from tunesmith.models.engines.settings import Engine as Places
from tunesmith.serving import engine_commands, model_cache
from tunesmith.serving.attended import Attend, attended
from tunesmith.serving.candidates import Candidate
from tunesmith.serving.engine import FIX, PARENT_DEATH_SIGNAL, Engine, Loads
from tunesmith.serving.engine_commands import TOKENIZER_FILES, EngineKind, ServedModel
from tunesmith.serving.settings import Serve


class Engines:
    """The running engines of this process. The thread that uses it must live as long as they."""

    def __init__(self, settings: Serve, places: Places | None = None, aliases: int = 1) -> None:
        """places: the section `engine`. aliases: versions that are served at once."""
        self.settings, self.places, self.aliases = settings, places or Places(), aliases
        self.running: list[Engine] = []

    @contextmanager
    def serving(self, candidate: Candidate, attend: Attend | None = None) -> Iterator[Engine]:
        """Yield an engine that answers as the candidate while the block runs; it may serve others too.

        Its bytes are checked again once they are loaded. attend: called while this waits. Raises ServingError or
        EngineError where it cannot be started, IntegrityError where a file was changed meanwhile.
        """
        with ExitStack() as resources:
            engine = self.shared(candidate) or self._start(candidate, attend)
            resources.callback(self._stop_unused, engine)
            load = partial(_load, engine, candidate, attend)
            resources.enter_context(engine.answering(candidate.served.name, load))
            yield engine

    def loaded(self) -> dict[str, Path]:
        """Return the folders of the full weights that adapters can be loaded on, by digest."""
        return {e.loads.digest: e.loads.weights for e in self.running if e.loads.adapters and not e.failed}

    def shared(self, candidate: Candidate) -> Engine | None:
        """Return a running engine that the candidate can share, if any."""
        return next((engine for engine in self.running if _fits(candidate, engine)), None)

    def fit_with(self, candidate: Candidate, *, without: Engine | None = None) -> bool:
        """Whether the candidate can be started beside the running engines, or beside all but ``without``.

        That engine frees nothing while another version uses it.
        """
        if self.shared(candidate):
            return True
        taking = [engine for engine in self.running if engine.on_gpu and not engine.failed]
        if without in taking and without.deployments == 1:
            taking.remove(without)
        return not taking or self.settings.fit(len(taking) + 1)

    def _start(self, candidate: Candidate, attend: Attend | None) -> Engine:
        """Start an engine for the candidate, and for further adapters on its base."""
        from tunesmith.serving.gateway import prompts  # imports transformers

        environment = engine_commands.choose(self.settings, self.places)
        kind: EngineKind = "vllm" if environment else "transformers"
        with ExitStack() as resources:
            served = candidate.linked(resources.enter_context(model_cache.private_folder()))
            loads = self._loads(candidate, served, environment)
            folder = resources.enter_context(socket_folder("tunesmith-serve-"))
            socket = folder / "engine.sock"
            command = engine_commands.command(
                environment, served, socket, folder, self.settings, self.places, loads.adapters
            )
            variables = (
                commands.variables(environment, self.places, loads_adapters=loads.adapters is not None)
                if environment
                else {}
            )
            process = ServerProcess(
                f"{served.name}: {kind}",
                command,
                socket,
                folder,
                fix=FIX,
                variables=variables,
                parent_death_signal=PARENT_DEATH_SIGNAL[kind],
            )
            resources.callback(process.stop)
            seconds = self.settings.start_seconds
            client = Client(socket=socket, timeout=seconds)
            resources.callback(client.close)
            attended(lambda: process.wait_until_healthy(seconds, "serve.start_seconds"), attend)
            # Verify the files that were loaded: they may have changed meanwhile.
            attended(lambda: candidate.verify(served), attend)
            reader = prompts.reader(candidate.served, self.settings)
            on_gpu = environment is not None and environment.build == "cuda"
            engine = Engine(kind, served.name, process, client, loads, reader, on_gpu, resources.pop_all())
        self.running.append(engine)
        return engine

    def _loads(self, candidate: Candidate, served: ServedModel, environment: Environment | None) -> Loads:
        adapters = None
        if environment and served.is_adapter:  # the previous version stays loaded while another takes over
            adapters = engine_commands.adapters(served, self.settings, self.aliases + 1)
        digest = candidate.full_weights_digest if adapters else candidate.digest
        return Loads(digest, candidate.served.full_weights, served.dtype, _renders(candidate), adapters)

    def _stop_unused(self, engine: Engine) -> None:
        if not engine.versions and engine in self.running:  # one that died while it loaded is removed already
            self.running.remove(engine)
            engine.stop()


def _load(engine: Engine, candidate: Candidate, attend: Attend | None, resources: ExitStack) -> None:
    """Load an adapter, and verify the loaded files; full weights are loaded when their engine starts."""
    if engine.loads.adapters is None:
        return
    folder = candidate.linked_model(resources.enter_context(model_cache.private_folder()))
    attended(lambda: resources.enter_context(engine.adapter(candidate.served.name, folder)), attend)
    attended(lambda: candidate.verify_model(folder), attend)


def _fits(candidate: Candidate, engine: Engine) -> bool:
    """Return whether an engine can answer as the candidate without another start."""
    loads, served = engine.loads, candidate.served
    if engine.failed or (loads.dtype, loads.renders) != (served.dtype, _renders(candidate)):
        return False
    if loads.adapters is None:
        return loads.digest == candidate.digest and served.name in engine.versions
    if not served.is_adapter or loads.digest != candidate.full_weights_digest:
        return False
    own = commands.adapters_of([served.folder])
    return own.rank <= loads.adapters.max_rank and set(own.modules) <= set(loads.adapters.modules)


def _renders(candidate: Candidate) -> frozenset[tuple[str, str]]:
    """The names and digests of the files that render and tokenize the candidate's prompts."""
    files = manifest.read(candidate.served.folder).files
    return frozenset(
        (name, str(entry["sha256"]))
        for name, entry in files.items()
        if any(Path(name).match(pattern) for pattern in TOKENIZER_FILES)
    )
