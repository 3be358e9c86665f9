"""Folders outside the project that a container sees: the hub's cache, DVC's, and what `runtime.mounts` adds."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tunesmith.core import dvc_project
from tunesmith.core.errors import EngineError
from tunesmith.runtime.staging import Mount

INSIDE = Path("/caches/hub")


def hub() -> Path:
    """Where huggingface_hub keeps what it downloads, as it finds that out itself."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser().absolute()


def mounts(network: bool) -> list[Mount]:
    """The hub's cache: to read, where it is; to write, for a stage that has a network to fill it from."""
    if network:
        hub().mkdir(parents=True, exist_ok=True)
    return [Mount(hub(), INSIDE, writable=network)] if hub().is_dir() else []


def of_dvc(root: Path) -> list[Mount]:
    """DVC's cache, if what the project holds are links into it, and it is elsewhere."""
    found = dvc_project.cache(root)
    outside = found.is_dir() and not found.is_relative_to(root)
    return [Mount(found, found, writable=False)] if outside and dvc_project.links(root) else []


def environment(network: bool) -> dict[str, str]:
    """The rest of the hub's folders is scratch. Without a network nothing is asked for one."""
    offline = {} if network else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {"HF_HUB_CACHE": str(INSIDE), "HF_HOME": "/tmp/huggingface", **offline}


def more(paths: Iterable[str]) -> list[Mount]:
    """What `runtime.mounts` names, at the same place inside. Raises EngineError for what is not there."""
    for path in map(Path, paths):
        if not path.is_absolute() or not path.exists():
            raise EngineError(
                f"params.yaml: runtime.mounts: {path} is not an absolute path of this machine",
                fix="correct it, or take it out",
            )
    return [Mount(Path(path), Path(path), writable=False) for path in paths]


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
