"""Publish a training's journal while it grows, from a process of its own.

    python -m tunesmith.runtime.journal_follower FOLDER RUN TRAINER

waits for the journal that its parent, the process with the ID TRAINER, writes in this run for the model FOLDER, and
becomes its publisher. Training never imports the tracking client and never waits for a server: registration publishes
whatever the follower could not, and publishing twice adds nothing.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import orjson

from tunesmith.core import journal, layout
from tunesmith.registry import attempts
from tunesmith.runtime import finished_runs

DRAIN_SECONDS = 4.0
"""Time that a follower has, after a training in a container, to publish the last lines."""
POLL_SECONDS = 0.5
"""Time between two looks for a journal."""
PUBLISHER = "tunesmith.registry.publishing"
"""The module whose process follows and publishes a journal."""


def recorded(root: Path, model: str | None, run: str) -> AbstractContextManager[attempts.Running | None]:
    """The record of an attempt at training ``model``; of nothing where that is None, or where nothing is published.

    root: of the project, or of a copy in which DVC runs an experiment. run: the ID of this run of the stage.
    """
    if model is None or os.environ.get(layout.RERUN_VARIABLE):
        return nullcontext()
    return attempts.recorded(layout.home(root), model, journal.key(run, model), finished_runs.inputs(root))


def start(folder: Path, run: str, locks: Sequence[int] = ()) -> None:
    """Start a follower of the journal that this process, about to become the training, writes for ``folder``.

    locks: those that keep the attempt alive (`attempts.Running`), as descriptors.
    """
    subprocess.Popen(
        [sys.executable, "-m", "tunesmith.runtime.journal_follower", str(folder), run, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the training
        pass_fds=locks,
    )


def main(folder: Path, run: str, training: int) -> None:
    """Wait for the journal, then become its publisher; return where the training ends first."""
    key = journal.key(run, folder.name)
    path = folder.with_name(f".{folder.name}.partial") / journal.NAME
    while os.getppid() == training:
        file = _open(path, key)
        if file is not None:
            with file:
                os.dup2(file.fileno(), 0)
            os.execv(sys.executable, [sys.executable, "-m", PUBLISHER, str(training), folder.name, key])
        time.sleep(POLL_SECONDS)


def _open(path: Path, key: str) -> BinaryIO | None:
    """Open the journal at its beginning; None before its first line is whole, and for the journal of an earlier run."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    first = file.readline()
    if not first.endswith(b"\n") or _key(first) != key:
        file.close()
        return None
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return file


def _key(line: bytes) -> object:
    """The key in a journal's first line; None where the line holds none."""
    try:
        start = orjson.loads(line)
    except orjson.JSONDecodeError:  # left by a disk that was full
        return None
    return start.get("key") if isinstance(start, dict) else None


def follow(file: BinaryIO, model: str, key: str, locks: Sequence[int] = ()) -> "subprocess.Popen[str]":
    """Start a publisher of the open journal of a training in a container. locks: as for `start`."""
    return subprocess.Popen(
        [sys.executable, "-m", PUBLISHER, str(os.getpid()), model, key],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for the training
        pass_fds=locks,
    )


def end(follower: "subprocess.Popen[str]") -> None:
    """End a publisher once the training is over, and print the reason where it refused the journal.

    It has DRAIN_SECONDS for the last lines, and publishes a journal without an `end` as that of a killed run.
    """
    follower.terminate()
    try:
        refusal, _ = follower.communicate(timeout=DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        follower.kill()
        refusal, _ = follower.communicate()
    if refusal:
        print(f"note: {refusal.strip()}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
