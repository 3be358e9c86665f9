"""Simulate a kill at every point of an action on the tracker: after each call, and in the middle of each upload.

A kill after a call that only reads would leave what the kill before left, unless a file was written in between.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replays import Replays

from tunesmith.registry.registered_models import Registry
from tunesmith.registry.trust import known_history

READS = ("get_", "search_", "list_", "download_")
"""Beginnings of the names of methods that change nothing."""


class Killed(BaseException):
    """A simulated kill. Not an Exception, so that no handler of the library catches it."""


class Mortal:
    """A tracking client that raises `Killed` after the ``step``-th call, or in the middle of the ``step``-th upload.

    A call that only reads counts where the project remembers something new since the call before.
    """

    def __init__(self, client: Any, step: int, when: str) -> None:
        self.client, self.left, self.when = client, step, when
        self.remembered = self._memory()

    def _memory(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in Path(known_history.FOLDER).glob("*")}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            before, self.remembered = self.remembered, self._memory()
            changes = not name.startswith(READS) or self.remembered != before
            counts = changes if self.when == "after" else name in ("log_artifacts", "log_model_artifacts")
            self.left -= counts
            if self.left or not counts:
                return method(*args, **kwargs)
            if self.when == "after":
                method(*args, **kwargs)
            else:
                owner, source, place = args
                first = min(path for path in Path(source).iterdir() if path.is_file())
                getattr(self.client, name.removesuffix("s"))(owner, str(first), place)
            raise Killed

        return call


def kill_at_every_step(
    project: Path,
    schema: Path,
    start: Callable[[Path], Callable[[Any], None]],
    check: Callable[[Path, Registry, bool], None],
) -> int:
    """Kill an action at every step, each time in the same project laid anew; check, repeat the action, check again.

    start: prepares the project and returns the action. check: takes the project, its registry, and whether the action
    completed. Returns the number of kills.
    """
    kills, replays = 0, Replays(project, schema, start)
    place, act = replays.place, replays.prepared
    for when in ("during", "after"):
        for step in itertools.count(1):
            with replays.again() as registry:
                client = registry.client
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
