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
from typing import BinaryIO

from tunesmith.core.journal import RUN

PATIENCE = 4.0
"""Seconds that a training waits, at its end, for its follower to publish the last lines."""


@contextmanager
def published_live(path: Path) -> Iterator[None]:
    """While the block runs, the journal at ``path``, which must exist, is published. Never fails, whatever becomes of
    that.
    """
    if os.environ.get(RUN):  # the host does it
        yield
        return
    with path.open("rb") as file:
        follower = follow(file)
    ended = False
    try:
        yield
        ended = True
    finally:
        end(follower, whole=ended)


def follow(file: BinaryIO, *whose: str) -> "subprocess.Popen[str]":
    """Start a follower of the journal that ``file`` is; whose: the model and the key it must be of, unless trusted."""
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith.registry.publishing", str(os.getpid()), *whose],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for the training
    )


def end(follower: "subprocess.Popen[str]", *, whole: bool) -> None:
    """Wait a while for a follower to end by itself, then end it, and tell what it did not publish.

    whole: the training came to its end; else the follower marks the run as killed, if the journal says no other.
    """
    if not whole:
        follower.terminate()
    try:
        said, _ = follower.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        follower.kill()
        said, _ = follower.communicate()
    if said:  # why it refused the journal
        print(f"note: {said.strip()}", file=sys.stderr)
    elif follower.returncode != 0 and whole:
        print("note: the tracking server did not take the whole run; registration publishes it", file=sys.stderr)
