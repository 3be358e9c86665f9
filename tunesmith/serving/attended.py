"""Long work in a thread, while the thread that waits for it attends to something else."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")
Attend = Callable[[], None]
INTERVAL = 1.0
"""Seconds between two calls of ``attend``."""


def attended(work: Callable[[], Result], attend: Attend | None) -> Result:
    """Return the result of ``work``; until it is there, call ``attend`` time and again. Raises what either raises.

    The work must not start a process that ends with its thread, as an engine does.
    """
    if attend is None:
        return work()
    outcome = Future[Result]()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    while not wait([outcome], timeout=INTERVAL).done:
        attend()
    return outcome.result()
