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
from tunesmith.core.errors import ContainerError
from tunesmith.runtime import container_options, image, journal_follower, parent_watch
from tunesmith.runtime.container_journals import followed
from tunesmith.runtime.docker_errors import explain
from tunesmith.runtime.settings import Runtime
from tunesmith.runtime.staging import STAGING, Staging

POLL_SECONDS = 0.2
"""Time between two attempts to remove a container."""
REMOVAL_SECONDS = 60.0
"""Timeout for the engine to remove a container."""
EXIT_SECONDS = 5.0
"""Timeout for each answer of the engine while this process exits."""
SIGNALS = ("SIGINT", "SIGKILL")
"""Signals that the first and the second interrupt send to a stage."""


def run(stage: Stage, runtime: Runtime, root: Path | None = None) -> int:
    """Run a stage in ``runtime.image``, move its outputs to their places, and return its exit status.

    Raises ContainerError where the engine, the image or the machine cannot run it, or where a limit ended it; BusyError
    while the same stage of this project runs already.
    """
    root = (root or Path()).resolve()
    client = connect()
    digest = check_image(client, str(runtime.image))
    name, creation = container_options.name(stage, root), threading.Lock()

    def clean_up() -> None:
        creation.acquire(timeout=EXIT_SECONDS)  # and never released: no container is created from here on
        _remove(connect(timeout=EXIT_SECONDS), name)

    with files.only_writer(root / STAGING / stage.target), parent_watch.exiting_with_parent(clean_up):
        _remove(client, name)  # left by an engine that was killed: no other process runs this stage now
        staging = Staging(root, stage)
        options = container_options.settings(stage, runtime, digest, staging)
        model = staging.checkpoints.name if staging.checkpoints else None
        with journal_follower.recorded(root, model, staging.run) as attempt:
            try:
                with followed(staging.folder, staging.outputs, staging.run, [attempt.lock] if attempt else []):
                    with creation:
                        container = client.containers.create(**options)
                    status = _follow(container, runtime.grace)
            except (requests.RequestException, ConnectionResetError) as error:  # APIError is one
                raise explain(error) from None
            finally:
                _remove(client, name)  # if that fails, nothing is published: the stage could still be writing
                staging.publish()
            if attempt and status == 0:
                attempt.end_well()
    return container_options.check_status(status, stage, runtime, root)


def connect(timeout: float | None = None) -> Any:
    """A client of the engine that DOCKER_HOST names, else of this machine's. timeout: seconds; None: the SDK's own."""
    try:
        return docker.from_env() if timeout is None else docker.from_env(timeout=timeout)
    except DockerException as error:
        raise ContainerError(
            f"no Docker engine answers at {os.environ.get('DOCKER_HOST', 'its usual socket')}: {error}",
            fix="`docker info` must work for this user; or set runtime.engine to host",
        ) from None


def check_image(client: Any, name: str) -> str:
    """Return ``name``, the digest of an image that the engine has and can run. Raises ContainerError otherwise."""
    digest = resolve(client, name)
    if not image.is_digest(name):
        raise ContainerError(
            f"params.yaml: runtime.image: {name} is a tag, and may mean another image tomorrow",
            fix=f"put its digest there: {digest}",
        )
    return name


def resolve(client: Any, name: str) -> str:
    """The digest of the image that has this name now: the registry's where it was pulled from one, else the engine's.

    Raises ContainerError where the engine has no such image, or one for another processor.
    """
    try:
        attributes, architecture = client.images.get(name).attrs, client.version()["Arch"]
    except APIError as error:
        raise ContainerError(
            f"the engine has no image {name}: {error.explanation}",
            fix=f"`docker pull {name}`, if it is in a registry; {image.HOW_TO_SET}",
        ) from None
    except requests.RequestException as error:
        raise explain(error) from None
    if attributes["Architecture"] != architecture:
        raise ContainerError(
            f"the image {name} is built for {attributes['Architecture']}; this engine runs {architecture}",
            fix=f"build it here ({image.HOW_TO_BUILD}), or pull the one for this processor",
        )
    pulled = attributes.get("RepoDigests") or []
    return str(min(pulled, key=lambda digest: not name.startswith(digest.partition("@")[0]), default=attributes["Id"]))


def _remove(client: Any, name: str) -> None:
    """Remove the container of this name, if any. Raises ContainerError unless the engine confirms that it is gone."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        try:
            client.containers.get(name).remove(force=True)
        except NotFound:
            return
        except requests.RequestException as error:
            being_removed = isinstance(error, APIError) and error.status_code == 409
            if not being_removed or time.monotonic() > deadline:
                raise ContainerError(
                    f"the container {name} may still be there, so none of its outputs are taken over: {error}",
                    fix=f"`docker rm --force {name}` once the engine answers, then run the stage again",
                ) from None
        time.sleep(POLL_SECONDS)


def _follow(container: Container, grace: float) -> int:
    """Start a container, pass on its output until it ends, and return its exit status."""
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    status = _exit_status(container)
    container.start()
    with _forwarding_interrupts(container, grace):
        for source, text in frames_iter(stream, tty=False):
            output = (sys.stderr if source == STDERR else sys.stdout).buffer
            output.write(text)
            output.flush()
        return status.result()["StatusCode"]


def _exit_status(container: Container) -> "Future[dict[str, int]]":
    """The exit status of a container, requested before it starts, since it removes itself.

    The request is made in a daemon thread: an engine that never answers does not delay this process's exit.
    """
    status: Future[dict[str, int]] = Future()

    def wait() -> None:
        try:
            status.set_result(container.wait(condition="removed", timeout=None))
        except Exception as error:  # raised again where the result is read
            status.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return status


@contextmanager
def _forwarding_interrupts(container: Container, grace: float) -> Iterator[None]:
    """Forward Ctrl-C. The first interrupts the stage; the next, or the end of its grace period, kills the container;
    one more stops waiting for the engine to do so. Raises KeyboardInterrupt where the stage did not end by itself.
    """
    sent: list[str] = []

    def stop(number: int, frame: Any) -> None:
        if len(sent) == len(SIGNALS):
            raise KeyboardInterrupt
        sent.append(SIGNALS[len(sent)])
        with suppress(requests.RequestException):
            container.kill(sent[-1])
        signal.setitimer(signal.ITIMER_REAL, grace)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
        if len(sent) == len(SIGNALS):  # otherwise the kill would look like one for lack of memory
            raise KeyboardInterrupt
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
