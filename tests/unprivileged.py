"""What a user without privileges meets, also where the tests run as root, who may read and write everything."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder. While the block runs, this process is its owner, and is not root."""
    made = Path(tempfile.mkdtemp(dir="/tmp")).resolve()  # pytest's own folders are closed to others
    root = os.geteuid() == 0
    if root:
        os.chown(made, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield made
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(made, ignore_errors=True)
