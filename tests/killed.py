"""A process killed at every step of what it does with the tracker: after each call, and amid each upload."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service import utils

from tunesmith.registry.registered_models import Registry


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


class Mortal:
    """A tracking client that dies after its ``step``-th call, or amid its ``step``-th upload."""

    def __init__(self, client: Any, step: int, when: str) -> None:
        self.client, self.left, self.when = client, step, when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*given: Any, **named: Any) -> Any:
            counts = self.when == "after" or name == "log_artifacts"
            self.left -= counts
            if self.left or not counts:
                return method(*given, **named)
            if self.when == "after":
                method(*given, **named)
            else:
                run, source, place = given
                first = min(path for path in Path(source).iterdir() if path.is_file())
                self.client.log_artifact(run, str(first), place)
            raise Killed

        return call


def copied(project: Path, to: Path) -> Path:
    """The same project elsewhere, as another process would find it: MLflow remembers where a run's artifacts were."""
    utils._artifact_repos_cache.clear()
    return Path(shutil.copytree(project, to))


def kill_at_every_step(
    project: Path,
    schema: Path,
    start: Callable[[Path], Callable[[Any], None]],
    check: Callable[[Path, Registry, bool], None],
) -> int:
    """For every step: do it in a project of its own, be killed there, check; do it again, check. Returns the kills.

    start: makes a project ready, of which the others are copies, and returns what is done. check: takes the project,
    its registry, whether it completed.
    """
    kills, ready = 0, project / "ready"
    ready.mkdir()
    shutil.copy(schema, ready / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ready)
        act = start(ready)
    for when in ("amid", "after"):
        step = 0
        while True:
            step += 1
            place = copied(ready, project / f"{when}-{step}")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)
                registry = Registry("arithmetic")
                client, registry.local = registry.client, None  # as a server's: all goes through the client
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
