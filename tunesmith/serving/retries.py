"""Retries of steps that failed for a transient reason, which is logged once and shown by /health."""

import re
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tunesmith.core.errors import BusyError, TunesmithError, UnreachableBaseError, UnreachableTrackerError
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.settings import Serve

TRANSIENT = (UnreachableTrackerError, UnreachableBaseError, BusyError, OSError)
"""Errors that say nothing against a version: an unreachable tracker or base, a lock of another process, a full disk."""

MAX_PAUSE = 300.0
"""Maximum pause between two attempts, in seconds."""

T = TypeVar("T")


class TransientErrors:
    """The current error of each step that will be retried."""

    def __init__(self, proxy: Proxy, log: Callable[[str], None]) -> None:
        self._proxy, self._log = proxy, log
        self._messages: dict[str, str] = {}
        """The message of the last error, by step."""

    def report(self, step: str, message: str) -> None:
        """Show the error of a step in /health, and log it unless the same error of any step is current."""
        if _without_numbers(message) not in map(_without_numbers, self._messages.values()):
            self._log(message)
        self._messages[step] = message
        self._show()

    def resolve(self, step: str) -> None:
        """Remove the error of a step that succeeded."""
        self._messages.pop(step, None)
        self._show()

    def _show(self) -> None:
        self._proxy.retrying = list(dict.fromkeys(self._messages.values()))


class Backoff:
    """Exponential backoff between attempts at the same key, up to `MAX_PAUSE`; another key is tried at once."""

    def __init__(self, first_pause: float) -> None:
        """first_pause: seconds between the first failure and the second attempt."""
        self._first_pause = self._pause = first_pause
        self._key: Hashable = None
        self._failure: Exception | None = None
        """The error of the last attempt, if it failed."""
        self._due = 0.0
        """The monotonic time of the next attempt at the same key."""

    @contextmanager
    def attempt(self, key: Hashable) -> Iterator[None]:
        """Run the block as an attempt at ``key``; in the pause after a failure, raise that failure again instead."""
        failure = self._failure if key == self._key else None
        if failure is not None and time.monotonic() < self._due:
            raise failure.with_traceback(None)
        try:
            yield
        except Exception as error:
            self._pause = min(2 * self._pause, MAX_PAUSE) if failure is not None else self._first_pause
            self._key, self._failure, self._due = key, error, time.monotonic() + self._pause
            raise
        self._failure = None


def retry_transient(step: Callable[[], T], settings: Serve, errors: TransientErrors) -> T:
    """Return the result of ``step``, retried while it raises `TRANSIENT` errors, for `Serve.start_seconds` at most."""
    first_failure = None
    while True:
        try:
            result = step()
        except TRANSIENT as error:
            first_failure = first_failure or time.monotonic()
            if time.monotonic() - first_failure >= settings.start_seconds:
                raise
            errors.report("start", f"nothing is served yet, retrying: {error_message(error)}")
        else:
            errors.resolve("start")
            return result
        time.sleep(settings.poll_seconds)


def error_message(error: Exception) -> str:
    """Return the text of an error for the user."""
    return str(error) if isinstance(error, TunesmithError) else repr(error)


def _without_numbers(message: str) -> str:
    """Replace parts that differ between occurrences of one error: addresses of objects, process ids, seconds."""
    return re.sub(r"0x[0-9a-f]+|\d+", "#", message)
