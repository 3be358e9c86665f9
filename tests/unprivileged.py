"""Run tests as a user without privileges, even where pytest runs as root, which may read and write everything."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder, owned by the user of this process, which is not root while the block runs."""
    path = Path(tempfile.mkdtemp(dir="/tmp")).resolve()  # pytest's own folders are closed to others
    root = os.geteuid() == 0
    if root:
        os.chown(path, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield path
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(path, ignore_errors=True)
