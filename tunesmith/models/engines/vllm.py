"""A running vLLM on the weights of a folder: started here while a block runs, or maintained by somebody else."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import EngineError
from tunesmith.models.engines import commands
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.commands import Adapters
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.process import ServerProcess, socket_folder
from tunesmith.models.engines.settings import Engine

WEIGHTS = "weights"
"""The name under which requests reach the full weights."""
FIX = (
    "fix the error in those lines; where memory is short, end what else runs on the GPU, or set "
    "engine.gpu_memory_share and engine.max_model_len in params.yaml; transformers answers without vLLM "
    "(evaluate.engine: transformers)"
)


@dataclass(frozen=True)
class Server:
    """A server of full weights, and of the adapters that are loaded on them. weights: the name of the full weights."""

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

    Raises EngineError where the server does not start, or ends while the block runs.
    """
    if settings.address is not None:
        client = Client(address=settings.address)
        try:
            yield Server(client, client.models()[0])
        finally:
            client.close()
        return
    with socket_folder("tunesmith-vllm-") as folder:
        socket = folder / "engine.sock"
        chosen = commands.variables(environment, settings, loads_adapters=adapters is not None) | (variables or {})
        command = commands.vllm_serve(
            environment,
            settings,
            weights,
            WEIGHTS,
            socket,
            dtype=dtype,
            adapters=adapters,
            mounts=mounts,
            more=more,
            chosen=chosen,
        )
        process = ServerProcess("vLLM", command, socket, folder, fix=FIX, variables=chosen)
        with _client_of(process, settings.start_seconds, is_container=environment.origin == "image") as client:
            yield Server(client, WEIGHTS)


@contextmanager
def _client_of(process: ServerProcess, start_seconds: float, *, is_container: bool) -> Iterator[Client]:
    """Yield a client of a process once it is healthy; the process ends with the block, and explains its errors."""
    client = Client(socket=process.socket)
    try:
        process.wait_until_healthy(start_seconds, "engine.start_seconds")
        yield client
    except EngineError as error:
        process.check_process()  # the end of an engine explains more than a failed request
        raise EngineError(f"{error.reason}\nthe last lines of vLLM:\n{process.tail()}", fix=error.fix) from None
    finally:
        client.close()
        process.stop()
        if is_container:  # which a killed `docker run` leaves behind
            removal = ["docker", "rm", "--force", commands.container_name(process.socket)]
            subprocess.run(removal, capture_output=True, check=False)
