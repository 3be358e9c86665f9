"""Publish from the host what a training in a container writes to its journal: the container has no network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith import journal
from tunesmith.live import published_live

LOOK = 0.5
"""Seconds between two looks for a journal."""


@contextmanager
def followed(outputs: list[Path]) -> Iterator[None]:
    """While the block runs, whatever training writes to one of ``outputs``, folders of models, is published."""
    places = [output.with_name(f".{output.name}.partial") / journal.NAME for output in outputs]
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=[places, over])
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _follow(places: list[Path], over: threading.Event) -> None:
    while not over.wait(LOOK):
        for place in filter(Path.is_file, places):
            with suppress(InterruptedError), published_live(place):
                over.wait()
                raise InterruptedError  # a training that did not come to its end is then marked as killed
