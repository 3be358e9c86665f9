"""What is wrong for a moment: said once, shown by /health, and tried again."""

import re
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from tunesmith.core.errors import BusyError, TunesmithError, UnreachableBaseError, UnreachableTrackerError
from tunesmith.serving.proxy import Proxy
from tunesmith.serving.settings import Serve

TRANSIENT = (UnreachableTrackerError, UnreachableBaseError, BusyError, OSError)
"""What says nothing against a version: a tracker or a base out of reach, a lock of somebody else's, a full disk."""

LONGEST = 300.0
"""Seconds between two attempts, at most."""

T = TypeVar("T")


class Troubles:
    """What each step met and will try again."""

    def __init__(self, proxy: Proxy, say: Callable[[str], None]) -> None:
        self._proxy, self._say = proxy, say
        self._met: dict[str, str] = {}

    def met(self, step: str, line: str) -> None:
        """Show it, and say it unless this step, or another one, met the same the last time."""
        if _gist(line) not in map(_gist, self._met.values()):
            self._say(line)
        self._met[step] = line
        self._show()

    def over(self, step: str) -> None:
        self._met.pop(step, None)
        self._show()

    def _show(self) -> None:
        self._proxy.retrying = list(dict.fromkeys(self._met.values()))


class Attempts:
    """Attempts at one thing, with pauses between them that double up to `LONGEST`; another thing is tried at once."""

    def __init__(self, first: float) -> None:
        """first: seconds of the first pause."""
        self._first = self._pause = first
        self._at: Hashable = None
        self._failure: Exception | None = None
        self._due = 0.0

    def make(self, at: Hashable, step: Callable[[], T]) -> T:
        """What ``step``, an attempt at ``at``, returns or raises; in the pause after a failure, that again."""
        same = self._failure is not None and at == self._at
        if self._failure is not None and same and time.monotonic() < self._due:
            raise self._failure.with_traceback(None)
        try:
            done = step()
        except Exception as error:  # it goes on up: what failed is only remembered
            self._pause = min(2 * self._pause, LONGEST) if same else self._first
            self._at, self._failure, self._due = at, error, time.monotonic() + self._pause
            raise
        self._failure = None
        return done


def patiently(step: Callable[[], T], settings: Serve, troubles: Troubles) -> T:
    """What ``step`` returns. What is `TRANSIENT` is tried again until it has lasted for `Serve.start_seconds`."""
    since = None
    while True:
        try:
            done = step()
        except TRANSIENT as error:
            since = since or time.monotonic()
            if time.monotonic() - since >= settings.start_seconds:
                raise
            troubles.met("start", f"nothing is served yet, it is tried again: {words(error)}")
        else:
            troubles.over("start")
            return done
        time.sleep(settings.poll_seconds)


def words(error: Exception) -> str:
    """What a user reads of an error."""
    return str(error) if isinstance(error, TunesmithError) else repr(error)


def _gist(line: str) -> str:
    """Without what differs each time: addresses of objects, process numbers, seconds."""
    return re.sub(r"0x[0-9a-f]+|\d+", "#", line)
