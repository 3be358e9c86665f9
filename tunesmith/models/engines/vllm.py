"""A running vLLM on the weights of a folder, started here for as long as a block runs, or kept by somebody else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.core.errors import EngineError
from tunesmith.models.engines import commands
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.commands import Adapters
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.process import ServerProcess
from tunesmith.models.engines.settings import Engine

WEIGHTS = "weights"
"""The name that the full weights are asked under."""
FIX = (
    "fix the error in those lines; where memory is short, end what else runs on the GPU, or set "
    "engine.gpu_memory_share and engine.max_model_len in params.yaml"
)


@dataclass(frozen=True)
class Server:
    """A server of full weights, and of the adapters that are loaded on them. weights: the name of the weights."""

    client: Client
    weights: str


@contextmanager
def running(
    environment: Environment,
    settings: Engine,
    weights: Path,
    *,
    dtype: str,
    adapters: Adapters | None = None,
    mounts: Sequence[Path] = (),
    more: Sequence[str] = (),
    variables: dict[str, str] | None = None,
) -> Iterator[Server]:
    """Serve the weights in a folder while the block runs; the arguments are those of `commands.vllm_serve`.

    Raises EngineError where the server does not start, or ended while it was asked.
    """
    if settings.address is not None:
        client = Client(address=settings.address)
        try:
            yield Server(client, client.models()[0])
        finally:
            client.close()
        return
    with TemporaryDirectory(prefix="tunesmith-vllm-") as scratch:
        folder, socket = Path(scratch), Path(scratch, "engine.sock")
        command = commands.vllm_serve(
            environment, settings, weights, WEIGHTS, socket, dtype=dtype, adapters=adapters, mounts=mounts, more=more
        )
        chosen = commands.variables(environment, settings, loads_adapters=adapters is not None)
        process = ServerProcess("vLLM", command, socket, folder, fix=FIX, variables=chosen | (variables or {}))
        client = Client(socket=socket)
        try:
            process.wait_until_healthy(settings.start_seconds, "engine.start_seconds")
            yield Server(client, WEIGHTS)
        except EngineError:
            process.check_process()  # an engine that is gone says more than a request that failed
            raise
        finally:
            client.close()
            process.stop()
