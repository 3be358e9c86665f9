"""Folders outside the project that a container sees: the hub's cache, DVC's, and what `runtime.mounts` adds."""

import os
from pathlib import Path

from tunesmith import dvc_project
from tunesmith.engines.staging import Mount
from tunesmith.errors import EngineError

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


def more(paths: list[str]) -> list[Mount]:
    """What `runtime.mounts` names, at the same place inside. Raises EngineError for what is not there."""
    for path in map(Path, paths):
        if not path.is_absolute() or not path.exists():
            raise EngineError(
                f"params.yaml: runtime.mounts: {path} is not an absolute path of this machine",
                fix="correct it, or take it out",
            )
    return [Mount(Path(path), Path(path), writable=False) for path in paths]
