"""Publish a training's journal while it grows, from a process of its own.

    python -m tunesmith.runtime.journal_follower FOLDER RUN

waits for the journal that the parent process, a training of this run, writes for the model FOLDER, and becomes its
publisher. Training never imports the tracking client and never waits for a server: registration publishes what the
follower could not, and publishing twice adds nothing.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import orjson

from tunesmith.core import journal

PATIENCE = 4.0
"""Seconds that the host waits, at the end of a training in a container, for its follower to publish the last lines."""
LOOK = 0.5
"""Seconds between two looks for a journal."""
PUBLISHER = "tunesmith.registry.publishing"


def start(folder: Path, run: str) -> None:
    """Start a follower of the journal that this process, once it is the training, writes for the model ``folder``."""
    subprocess.Popen(
        [sys.executable, "-m", "tunesmith.runtime.journal_follower", str(folder), run],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the training
    )


def main(folder: Path, run: str) -> None:
    """Wait for the journal, then become its publisher; end without one where the training ends first."""
    training, key = os.getppid(), journal.key(run, folder.name)
    path = folder.with_name(f".{folder.name}.partial") / journal.NAME
    while os.getppid() == training:
        file = _opened(path, key)
        if file is not None:
            os.dup2(file.fileno(), 0)
            os.execv(sys.executable, [sys.executable, "-m", PUBLISHER, str(training), folder.name, key])
        time.sleep(LOOK)


def _opened(path: Path, key: str) -> BinaryIO | None:
    """The journal, at its beginning; None before its first line is there, or where it is that of an earlier run."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    first = file.readline()
    if not first.endswith(b"\n") or orjson.loads(first).get("key") != key:
        file.close()
        return None
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return file


def follow(file: BinaryIO, *whose: str) -> "subprocess.Popen[str]":
    """Publish the journal that ``file`` is, of a training in a container. whose: its model and key."""
    return subprocess.Popen(
        [sys.executable, "-m", PUBLISHER, str(os.getpid()), *whose],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for the training
    )


def end(follower: "subprocess.Popen[str]") -> None:
    """Tell a publisher that the training is over, wait a while for it to end, and print why it refused a journal.

    A journal without an `end` is published as that of a killed run.
    """
    follower.terminate()
    try:
        refusal, _ = follower.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        follower.kill()
        refusal, _ = follower.communicate()
    if refusal:
        print(f"note: {refusal.strip()}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
