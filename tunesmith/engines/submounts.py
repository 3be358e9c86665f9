"""Further mounts of this machine within what a container is shown.

A read-only mount is read-only by itself: what is mounted below it stays as writable as it is here, unless the engine
and the kernel are new (Docker 25, Linux 5.12). So each is given to the container once more, read-only.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith.engines.staging import Mount

TABLE = Path("/proc/self/mountinfo")


def of(mounts: Sequence[Mount], table: Path = TABLE, there: Callable[[Path], bool] = os.path.exists) -> list[Mount]:
    """What is mounted below those of ``mounts`` that are not to be written, and is not among them.

    there: whether a place is, for one may be hidden by a later mount, or deleted.
    """
    points = _points(table)
    found = []
    for mount in mounts:
        for point in points if not mount.writable else []:
            if point != mount.source and point.is_relative_to(mount.source) and there(point):
                target = mount.target / point.relative_to(mount.source)
                above = [other for other in mounts if target.is_relative_to(other.target)]
                if max(above, key=lambda other: len(other.target.parts)) is mount:
                    found.append(Mount(point, target, writable=False))
    return found


def _points(table: Path) -> list[Path]:
    """Where something is mounted; a place with blanks is written with octal numbers (proc_pid_mountinfo(5))."""
    if not table.exists():  # not Linux, so the engine's machine is another one
        return []
    places = (line.split()[4] for line in table.read_text().splitlines())
    return sorted({Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)) for place in places})
