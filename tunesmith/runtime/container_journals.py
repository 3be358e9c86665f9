"""Publish from the host what a training in a container writes to its journal: the container has no network.

The journal is the word of a stage that is not trusted. It is published only as the training of the model that the
output is, under the key that this run of the stage was given, and so to a run of the tracker that nobody else has.
"""

import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tunesmith.core import journal
from tunesmith.core.errors import EngineError
from tunesmith.registry.journal_reader import JournalReader
from tunesmith.runtime import journal_follower

LOOK = 0.5
"""Seconds between two looks for a journal."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would otherwise wait for its writer


@contextmanager
def followed(folder: Path, outputs: Sequence[Path], run: str) -> Iterator[None]:
    """While the block runs, whatever training writes to one of ``outputs`` in ``folder`` is published.

    run: what this run of the stage is called. A journal that is refused is told and not published, and the stage goes
    on: what it leaves in place of an output is judged at its end (`check`).
    """
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=[folder, list(outputs), run, over])
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def check(folder: Path, output: Path, run: str) -> None:
    """Raises EngineError where the journal in an output, a model's folder, is refused, or is not whole.

    The output is then not taken in: `register` would publish that journal under the key that it names.
    """
    try:
        file = _opened(folder, output / journal.NAME)
    except FileNotFoundError:  # no training wrote this folder
        return
    reader = JournalReader(file, output.name, journal.key(run, output.name))
    with file:
        while not reader.caught_up:
            reader.read()
    reader.check_ended()


def _follow(folder: Path, awaited: list[Path], run: str, over: threading.Event) -> None:
    while not over.wait(LOOK):
        for output in list(awaited):
            try:
                file = _opened(folder, output.with_name(f".{output.name}.partial") / journal.NAME)
            except FileNotFoundError:
                continue
            except EngineError as error:
                print(f"note: {error}", file=sys.stderr)
            else:
                with file:
                    follower = journal_follower.follow(file, output.name, journal.key(run, output.name))
                while follower.poll() is None and not over.wait(LOOK):
                    pass
                journal_follower.end(follower)
            awaited.remove(output)


def _opened(folder: Path, path: Path) -> BinaryIO:
    """Open a plain file in ``folder``, by way of no link: what that leads to is not the stage's.

    Raises EngineError where there is anything else, and FileNotFoundError where there is nothing yet.
    """
    try:
        found = os.open(folder, FOLDER)
        for name, flags in [*((part, FOLDER) for part in path.parent.parts), (path.name, FILE)]:
            above = found
            try:
                found = os.open(name, flags, dir_fd=above)
            finally:
                os.close(above)
    except FileNotFoundError:
        raise
    except OSError as error:  # a link: "Too many levels of symbolic links", or "Not a directory"
        raise _refused(path, str(error.strerror)) from None
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise _refused(path, "Not a file")
    return os.fdopen(found, "rb")


def _refused(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"{path} is refused: not a plain file, reached by way of no link ({reason})",
        fix="no training writes that: look at what else the stage runs",
    )
