"""Publish a journal while it grows, from a process of its own.

Training never imports the tracking client and never waits for a server: a follower process reads the journal and
publishes what it can. What it could not is published at registration; publishing twice adds nothing.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 4.0
"""Seconds that a training waits, at its end, for its follower to publish the last lines."""
ELSEWHERE = "TUNESMITH_PUBLISHED_ELSEWHERE"
"""A variable that is set where no server can be reached, and somebody else publishes: in a container."""


@contextmanager
def published_live(journal: Path) -> Iterator[None]:
    """While the block runs, a follower publishes ``journal``, which must exist. Never fails, whatever becomes of it."""
    if os.environ.get(ELSEWHERE):
        yield
        return
    command = [sys.executable, "-m", "tunesmith.publishing", str(journal.resolve()), str(os.getpid())]
    follower = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the training
    )
    ended = False
    try:
        yield
        ended = True
    finally:
        if not ended:  # the follower then marks the run as killed
            follower.terminate()
        status = _end(follower)
    if status != 0:
        print("note: the tracking server did not take the whole run; registration publishes it", file=sys.stderr)


def _end(follower: subprocess.Popen[bytes]) -> int:
    """Wait a while for the follower to end by itself, then end it. Returns its exit status."""
    try:
        return follower.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        follower.kill()
        return follower.wait()
