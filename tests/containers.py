"""Stages in real containers, for tests that have a Docker engine."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from runtime_settings import DEFAULTS, STAGE

from tunesmith.runtime import container_options, docker


def image() -> str:
    """The digest of the image under test."""
    with closing(docker.connect()) as client:
        return docker.resolve(client, os.environ.get("TUNESMITH_TEST_IMAGE", "tunesmith"))


def runtime(digest: str, **changes: Any) -> dict[str, Any]:
    """The section `runtime` of a project whose stages run in an image."""
    return DEFAULTS | {"engine": "docker", "image": digest} | changes


def of(folder: Path) -> list[str]:
    """The IDs of the containers of a project's stages, in any state: one that has ended must be removed as well."""
    names = {"name": container_options.name(STAGE, folder).rpartition("-")[2]}  # the part that all stages share
    with closing(docker.connect()) as client:  # `containers.list` fails where one is removed meanwhile
        return [container["Id"] for container in client.api.containers(all=True, filters=names)]


def wait_until_removed(folder: Path, seconds: float = 60) -> None:
    """Wait until the project has no container; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while left := of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
