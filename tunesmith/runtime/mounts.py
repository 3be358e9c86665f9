"""Folders outside the project that a container sees: the caches of the hub, of `datasets` and of DVC, the installed
package, and those that `runtime.mounts` adds."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tunesmith.core import dvc_project, fingerprint, lineage
from tunesmith.core.errors import ContainerError
from tunesmith.runtime import container_init
from tunesmith.runtime.staging import Mount

HUB_TARGET = Path("/caches/hub")
"""The hub's cache as a container sees it."""
PACKAGES = Path("/packages")
"""The folder of the installed package as a container sees it."""
MOUNT_TABLE = Path("/proc/self/mountinfo")


def hub_cache() -> Path:
    """The folder of huggingface_hub's downloads, by the same variables and defaults as that library's."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser().absolute()


def of_hub(network: bool) -> list[Mount]:
    """The hub's cache: read-only where it exists; writable, and created, for a stage with a network to fill it from."""
    if network:
        hub_cache().mkdir(parents=True, exist_ok=True)
    return [Mount(hub_cache(), HUB_TARGET, writable=network)] if hub_cache().is_dir() else []


def of_datasets(network: bool) -> list[Mount]:
    """The cache of `datasets`, from which a stage without a network loads the data of lm-eval's tasks."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    cache = Path(os.environ.get("HF_DATASETS_CACHE", f"{home}/datasets")).expanduser().absolute()
    return [Mount(cache, container_init.DATASETS, writable=False)] if cache.is_dir() and not network else []


def of_dvc(root: Path) -> list[Mount]:
    """DVC's cache, where it is outside the project and files of the project may be links into it."""
    cache = dvc_project.cache(root)
    outside = cache.is_dir() and not cache.is_relative_to(root)
    return [Mount(cache, cache, writable=False)] if outside and dvc_project.uses_symlinks(root) else []


def of_package(root: Path) -> list[Mount]:
    """The installed package, where the project does not hold it: an image has none."""
    package = fingerprint.PACKAGE.resolve()
    return [] if lineage.holds_package(root) else [Mount(package, PACKAGES / package.name, writable=False)]


def hub_environment(network: bool) -> dict[str, str]:
    """The variables by which libraries find the hub's cache; its other folders are scratch. No network: offline."""
    offline = {} if network else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {"HF_HUB_CACHE": str(HUB_TARGET), "HF_HOME": str(container_init.HF_HOME), **offline}


def of_user(paths: Iterable[str]) -> list[Mount]:
    """The paths of `runtime.mounts`, at the same place inside. Raises ContainerError for one that does not exist."""
    for path in map(Path, paths):
        if not path.is_absolute() or not path.exists():
            raise ContainerError(
                f"params.yaml: runtime.mounts: {path} is not an absolute path of this machine",
                fix="correct it, or take it out",
            )
    return [Mount(Path(path), Path(path), writable=False) for path in paths]


def submounts(
    mounts: Sequence[Mount], table: Path = MOUNT_TABLE, exists: Callable[[Path], bool] = os.path.exists
) -> list[Mount]:
    """Read-only mounts of the file systems that are mounted below read-only ``mounts`` and are not among them.

    exists: whether a mount point is there, since a later mount may hide it, or it may have been deleted.
    """
    points = _mount_points(table)
    below = []
    for mount in mounts:
        for point in points if not mount.writable else []:
            if point != mount.source and point.is_relative_to(mount.source) and exists(point):
                target = mount.target / point.relative_to(mount.source)
                above = [other for other in mounts if target.is_relative_to(other.target)]
                if max(above, key=lambda other: len(other.target.parts)) is mount:
                    below.append(Mount(point, target, writable=False))
    return below


def _mount_points(table: Path) -> list[Path]:
    """The mount points of this machine; the table writes blanks as octal numbers (proc_pid_mountinfo(5))."""
    if not table.exists():  # not Linux, so the engine runs on another machine
        return []
    places = (line.split()[4] for line in table.read_text().splitlines())
    return sorted({Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)) for place in places})
