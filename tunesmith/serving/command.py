"""`tunesmith serve`: serve versions of the registered model at one address until interrupted."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Event

from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.core.formatting import printable
from tunesmith.models.engines.settings import Engine
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names
from tunesmith.serving.engines import Engines
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.gateway.refusals import is_loopback
from tunesmith.serving.gateway.web import listening
from tunesmith.serving.retries import TransientErrors, retry_transient
from tunesmith.serving.settings import Serve
from tunesmith.serving.supervisor import Supervisor


def run(which: Sequence[str], port: int | None, host: str | None = None, wait: bool = False) -> None:
    """Serve the versions that ``which`` names (`versions.choose`) until interrupted; aliases are followed.

    The first answers to the name of the registered model alone. wait: whether to wait for the first promotion to an
    alias. Raises RegistryError, IntegrityError, ServingError or EngineError where a version cannot be served at first,
    and an error of `retries.TRANSIENT` that lasts for `Serve.start_seconds`.
    """
    interrupted = interrupts()
    settings, names = params.load(Serve, "serve"), params.load(Names, "registry")
    settings = settings.model_copy(update={"host": host or settings.host})
    key = api_key(settings)
    chosen = list(dict.fromkeys(which))
    proxies = [Proxy(names.model, one[1:] if one.startswith("@") else None, settings.stall_seconds) for one in chosen]
    signing, places = params.load(Settings, "signing").root, params.load(Engine, "engine")
    port = settings.port if port is None else port
    # Engines stop after the proxies, which drain their requests.
    with ExitStack() as running, listening(proxies, settings, port, key) as url:
        try:
            errors = TransientErrors(proxies[0], log_to_stderr)
            registry = retry_transient(lambda: Registry(), settings, errors)
            engines = Engines(settings, places, len(proxies))
            supervisors = [
                Supervisor(registry, names.model, proxy, settings, signing, log_to_stderr, engines) for proxy in proxies
            ]
            for one, supervisor in zip(chosen, supervisors, strict=True):
                supervisor.peers = supervisors
                running.callback(supervisor.close)
                start(supervisor, one, wait, first=supervisor is supervisors[0])
            show(url, supervisors)
            while not interrupted.wait(settings.poll_seconds):
                for supervisor in supervisors:
                    supervisor.poll()
        except KeyboardInterrupt:
            pass
        log_to_stderr("stopping after the requests in flight")


def interrupts() -> Event:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt, and return an event that they set too.

    Python drops an exception that is raised while an object is finalized; the event ends the command all the same.
    """
    interrupted = Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    return interrupted


def start(supervisor: Supervisor, which: str, wait: bool, *, first: bool) -> None:
    """Serve a version; with ``wait``, after the first promotion to its alias.

    This waits for the first alias only; a first promotion to another one is picked up by polling.
    """
    alias = supervisor.proxy.alias
    if wait and alias and first:
        supervisor.wait_for_first(alias)
    elif wait and alias and supervisor.must_wait(alias):
        return
    supervisor.start(which)


def show(url: str, supervisors: Sequence[Supervisor]) -> None:
    """Print the address and what is served there."""
    for supervisor in supervisors:
        if supervisor.deployment:
            name = supervisor.proxy.label if len(supervisors) > 1 else supervisor.name
            print(f"{url}/v1 serves {name} {supervisor.deployment}", flush=True)
    print(f"{url}/health shows the state; Ctrl-C stops it", flush=True)


def api_key(settings: Serve) -> str | None:
    """Return the key that requests must bring, if any, and take it out of the environment of engines.

    Raises ParamsError where its variable is not set. Warns where other machines can send requests without a key.
    """
    variable = settings.api_key_variable
    if variable is None:
        if not is_loopback(settings.host):
            log_to_stderr(f"whoever reaches {settings.host} can send requests: serve.api_key_variable is not set")
        return None
    if not (key := os.environ.pop(variable, "").strip()):
        raise ParamsError(
            f"params.yaml: serve.api_key_variable: the environment variable {variable} is not set",
            fix=f"set {variable} to the key that requests must bring, or remove the param",
        )
    return key


def log_to_stderr(line: str) -> None:
    """Write a line of the log, made printable, as it may quote foreign text."""
    print(printable(line, lines=True), file=sys.stderr, flush=True)
