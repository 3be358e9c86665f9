"""Simulate a kill at every point of an action on the tracker: after each call, and in the middle of each upload."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service import utils

from tunesmith.registry.registered_models import Registry


class Killed(BaseException):
    """A simulated kill. Not an Exception, so that no handler of the library catches it."""


class Mortal:
    """A tracking client that raises `Killed` after its ``step``-th call, or in the middle of its ``step``-th upload."""

    def __init__(self, client: Any, step: int, when: str) -> None:
        self.client, self.left, self.when = client, step, when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts = self.when == "after" or name == "log_artifacts"
            self.left -= counts
            if self.left or not counts:
                return method(*args, **kwargs)
            if self.when == "after":
                method(*args, **kwargs)
            else:
                run, source, place = args
                first = min(path for path in Path(source).iterdir() if path.is_file())
                self.client.log_artifact(run, str(first), place)
            raise Killed

        return call


def copied(project: Path, to: Path) -> Path:
    """Copy a project and return the copy, without the artifact paths that MLflow caches in this process."""
    utils._artifact_repos_cache.clear()
    return Path(shutil.copytree(project, to))


def kill_at_every_step(
    project: Path,
    schema: Path,
    start: Callable[[Path], Callable[[Any], None]],
    check: Callable[[Path, Registry, bool], None],
) -> int:
    """Kill an action at every step, each time in a new copy of the project; check, repeat the action, check again.

    start: prepares the project and returns the action. check: takes the project, its registry, and whether the action
    completed. Returns the number of kills.
    """
    kills, ready = 0, project / "ready"
    ready.mkdir()
    shutil.copy(schema, ready / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ready)
        act = start(ready)
    for when in ("during", "after"):
        step = 0
        while True:
            step += 1
            place = copied(ready, project / f"{when}-{step}")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)
                registry = Registry("arithmetic")
                client, registry.local = registry.client, None  # as on a server, all requests go through the client
                registry.client = Mortal(client, step, when)
                try:
                    act(registry)
                except Killed:
                    kills += 1
                    registry.client = client
                    check(place, registry, False)
                    act(registry)
                    check(place, registry, True)
                else:
                    break
    return kills
