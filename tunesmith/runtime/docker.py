"""Run a stage in a container. The only importer of the Docker SDK."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.utils.socket import STDERR, frames_iter

from tunesmith.core import files
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import EngineError
from tunesmith.runtime import container_options, image, parent_watch
from tunesmith.runtime.container_journals import followed
from tunesmith.runtime.docker_errors import explain
from tunesmith.runtime.settings import Runtime
from tunesmith.runtime.staging import PLACE, Staging

LOOK = 0.2
"""Seconds between two looks at what should change."""
REMOVAL = 60.0
"""Seconds that an engine may take to remove a container."""
PARTING = 5.0
"""Seconds that an engine may take to answer a process that is about to end."""
ENDING = ("SIGINT", "SIGKILL")
"""What interrupts send to a stage, one after the other."""


def run(stage: Stage, runtime: Runtime, root: Path | None = None) -> int:
    """Run a stage in ``runtime.image`` and return its exit status; its outputs are then in place.

    Raises EngineError where the engine, the image or the machine cannot, or where a limit ended the stage; BusyError
    while the same stage of this project runs already.
    """
    root = (root or Path()).resolve()
    client = connect()
    digest = check_image(client, str(runtime.image))
    name, making = container_options.name(stage, root), threading.Lock()

    def clean_up() -> None:
        making.acquire(timeout=PARTING)  # and not released: none is made any more
        _remove(connect(timeout=PARTING), name)

    with files.only_writer(root / PLACE / stage.target), parent_watch.ended_with(clean_up):
        _remove(client, name)  # nobody else runs this stage now: of an engine that was killed a moment ago
        staging = Staging(root, stage)
        given = container_options.settings(stage, runtime, digest, staging)
        try:
            with followed(staging.folder, staging.outputs, staging.run):
                with making:
                    container = client.containers.create(**given)
                status = _follow(container, runtime.grace)
        except (requests.RequestException, ConnectionResetError) as error:  # APIError is one
            raise explain(error) from None
        finally:
            _remove(client, name)  # or nothing is published: what still runs could write on
            staging.publish()
    return container_options.explained(status, stage, runtime, root)


def connect(timeout: float | None = None) -> Any:
    """A client of the engine that DOCKER_HOST names, or of the one here. timeout: seconds, else the SDK's own."""
    try:
        return docker.from_env() if timeout is None else docker.from_env(timeout=timeout)
    except DockerException as error:
        raise EngineError(
            f"no Docker engine answers at {os.environ.get('DOCKER_HOST', 'its usual socket')}: {error}",
            fix="`docker info` must work for this user; or set runtime.engine to host",
        ) from None


def check_image(client: Any, name: str) -> str:
    """``name`` as it stands, if it is the digest of an image that the engine has and can run. Raises EngineError."""
    found = resolve(client, name)
    if not image.is_digest(name):
        raise EngineError(
            f"params.yaml: runtime.image: {name} is a tag, and may mean another image tomorrow",
            fix=f"put its digest there: {found}",
        )
    return name


def resolve(client: Any, name: str) -> str:
    """The digest of the image that ``name`` means here now: the registry's where it comes from one, else the engine's.

    Raises EngineError where the engine has no such image, or where it is built for another processor.
    """
    try:
        attributes, here = client.images.get(name).attrs, client.version()["Arch"]
    except APIError as error:
        raise EngineError(
            f"the engine has no image {name}: {error.explanation}",
            fix=f"`docker pull {name}`, if it is in a registry; {image.HOW}",
        ) from None
    except requests.RequestException as error:
        raise explain(error) from None
    if attributes["Architecture"] != here:
        raise EngineError(
            f"the image {name} is built for {attributes['Architecture']}; this engine runs {here}",
            fix="build it here with `make image`, or pull the one for this processor",
        )
    pulled = attributes.get("RepoDigests") or []
    return str(min(pulled, key=lambda digest: not name.startswith(digest.partition("@")[0]), default=attributes["Id"]))


def _remove(client: Any, name: str) -> None:
    """Remove the container of this name, if there is one. Raises EngineError unless the engine says that it is gone."""
    deadline = time.monotonic() + REMOVAL
    while True:
        try:
            client.containers.get(name).remove(force=True)
        except NotFound:
            return
        except requests.RequestException as error:
            being_removed = isinstance(error, APIError) and error.status_code == 409
            if not being_removed or time.monotonic() > deadline:
                raise EngineError(
                    f"the container {name} may still be there, so nothing that it wrote is taken over: {error}",
                    fix=f"`docker rm --force {name}` once the engine answers, then run the stage again",
                ) from None
        time.sleep(LOOK)


def _follow(container: Container, grace: float) -> int:
    """Start it, pass on what it prints until it ends, and return its exit status."""
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    status = _awaited(container)
    container.start()
    with _interrupts_reach(container, grace):
        for source, text in frames_iter(stream, tty=False):
            to = sys.stderr if source == STDERR else sys.stdout
            to.buffer.write(text)
            to.buffer.flush()
        return status.result()["StatusCode"]


def _awaited(container: Container) -> "Future[dict[str, int]]":
    """How it ends, which is asked before it starts: it removes itself. An engine that never says holds up no exit."""
    status: Future[dict[str, int]] = Future()

    def wait() -> None:
        try:
            status.set_result(container.wait(condition="removed", timeout=None))
        except Exception as error:  # raised where the status is asked for
            status.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return status


@contextmanager
def _interrupts_reach(container: Container, grace: float) -> Iterator[None]:
    """The first Ctrl-C interrupts the stage; the next one, or the end of its grace, ends the container; one more leaves
    that to the engine, which has not done it. Raises KeyboardInterrupt where the stage did not end by itself.
    """
    sent: list[str] = []

    def stop(number: int, frame: Any) -> None:
        if len(sent) == len(ENDING):
            raise KeyboardInterrupt
        sent.append(ENDING[len(sent)])
        with suppress(requests.RequestException):
            container.kill(sent[-1])
        signal.setitimer(signal.ITIMER_REAL, grace)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
        if len(sent) == len(ENDING):  # else its end would be taken for one for want of memory
            raise KeyboardInterrupt
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
