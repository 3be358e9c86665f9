"""Publish the journal of a training in a container from the host, since the container has no network.

The stage that writes the journal is not trusted. It is published only as the training of the output's model, under the
key of this run of the stage, and so to a run of the tracker that no other training has.
"""

import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tunesmith.core import journal, layout
from tunesmith.core.errors import ContainerError
from tunesmith.registry.journal_reader import JournalReader
from tunesmith.runtime import journal_follower

POLL_SECONDS = 0.5
"""Time between two looks for a journal."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would otherwise wait for its writer


@contextmanager
def followed(folder: Path, outputs: Sequence[Path], run: str, locks: Sequence[int] = ()) -> Iterator[None]:
    """While the block runs, publish the journal of every training that writes one of ``outputs`` in ``folder``.

    run: the ID of this run of the stage. locks: as for `journal_follower.start`. A refused journal is not published,
    and a note says why; the stage goes on, and its outputs are checked at its end (`check`). Nothing is published of
    what `tunesmith reproduce` runs.
    """
    over, awaited = threading.Event(), [] if os.environ.get(layout.RERUN_VARIABLE) else list(outputs)
    follower = threading.Thread(target=_follow, args=[folder, awaited, run, over, locks])
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def check(folder: Path, output: Path, run: str) -> None:
    """Raise ContainerError where the journal in an output, a model's folder, is refused or incomplete.

    Such an output must not be published: `register` would publish its journal under the key that the journal names.
    """
    try:
        file = _open(folder, output / journal.NAME)
    except FileNotFoundError:  # no training wrote this folder
        return
    reader = JournalReader(file, output.name, journal.key(run, output.name))
    with file:
        while not reader.caught_up:
            reader.read()
    reader.check_ended()


def _follow(folder: Path, awaited: list[Path], run: str, over: threading.Event, locks: Sequence[int]) -> None:
    """Follow the journal of each awaited output in turn, until ``over`` is set."""
    while not over.wait(POLL_SECONDS):
        for output in list(awaited):
            try:
                file = _open(folder, output.with_name(f".{output.name}.partial") / journal.NAME)
            except FileNotFoundError:
                continue
            except ContainerError as error:
                print(f"note: {error}", file=sys.stderr)
            else:
                with file:
                    follower = journal_follower.follow(file, output.name, journal.key(run, output.name), locks)
                while follower.poll() is None and not over.wait(POLL_SECONDS):
                    pass
                journal_follower.end(follower)
            awaited.remove(output)


def _open(folder: Path, path: Path) -> BinaryIO:
    """Open a plain file in ``folder`` without following links, which would lead to files that are not the stage's.

    Raises ContainerError for a link or anything else, and FileNotFoundError where the path does not exist yet.
    """
    try:
        descriptor = os.open(folder, FOLDER)
        for name, flags in [*((part, FOLDER) for part in path.parent.parts), (path.name, FILE)]:
            above = descriptor
            try:
                descriptor = os.open(name, flags, dir_fd=above)
            finally:
                os.close(above)
    except FileNotFoundError:
        raise
    except OSError as error:  # a link: "Too many levels of symbolic links", or "Not a directory"
        raise _refused(path, str(error.strerror)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused(path, "Not a file")
    return os.fdopen(descriptor, "rb")


def _refused(path: Path, reason: str) -> ContainerError:
    return ContainerError(
        f"{path} is refused: not a plain file that is reached without links ({reason})",
        fix="no training of ours writes that: find out what else the stage runs",
    )
