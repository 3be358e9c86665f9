"""The number of CPUs that this process may use, and thread pools of that size.

torch sizes its pools by the CPUs that it sees, and in a container it sees all of the machine's: with a quota of two
CPUs out of sixteen, sixteen threads compete for two. So the size is set from outside, before torch is imported.
"""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def environment() -> dict[str, str]:
    """Variables for a process that will import torch; those that the user has set stay as they are.

    OMP_WAIT_POLICY makes waiting threads sleep instead of spin: it costs a lone process little, while two processes
    that spin on the same CPUs lose nearly all of their speed.
    """
    count = str(usable_cpus())
    defaults = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


def usable_cpus(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """The smallest of this process's CPU affinity and the quotas of its cgroups, rounded down, at least 1."""
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([present, *_quotas(root, membership)])))


def _quotas(root: Path, membership: Path) -> Iterator[float]:
    """The quotas, in CPUs, of the process's cgroups, from its own up to the root: in a container, the container's."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for number, controllers, group in (line.split(":", 2) for line in lines):
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        place = root if number == "0" else root / "cpu"
        for folder in (place / group.lstrip("/"), *(place / parent for parent in Path(group.lstrip("/")).parents)):
            quota, period = _version_2(folder) if number == "0" else _version_1(folder)
            if quota > 0 and period > 0:
                yield quota / period


def _version_2(folder: Path) -> tuple[int, int]:
    """The quota and the period of a cgroup, in microseconds; a quota of 0 where it is unlimited."""
    words = _read(folder / "cpu.max").split()
    return (int(words[0]), int(words[1])) if len(words) == 2 and words[0] != "max" else (0, 0)


def _version_1(folder: Path) -> tuple[int, int]:
    """The quota and the period of a cgroup, in microseconds; a quota of -1 where it is unlimited."""
    return int(_read(folder / "cpu.cfs_quota_us") or 0), int(_read(folder / "cpu.cfs_period_us") or 0)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # the root has no quota, and a container does not see the groups above it
        return ""
