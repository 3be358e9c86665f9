"""Artifacts of runs that lie in a folder of this machine: copied without MLflow, and no link among them followed."""

import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tunesmith import manifest
from tunesmith.errors import RegistryError


def folder(address: str) -> Path | None:
    """What an address of artifacts means, if it is a folder of this machine; as MLflow reads it."""
    parts = urlsplit(address)
    if parts.scheme:
        return Path(unquote(parts.path)) if parts.scheme == "file" else None
    return Path(unquote(address))


def copy(artifacts: Path, path: str, into: Path) -> Path:
    """Copy a file or a folder into a folder, over what of it is there, and return where it lies.

    Raises IntegrityError for a link, RegistryError where there is nothing.
    """
    source = _inside(artifacts, path)
    for file in source.rglob("*"):
        manifest.no_link(file)
    target = into / source.name
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif source.is_file():
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        raise RegistryError(f"{source}: no such artifact", fix="find out who removed it; register the model again")
    return target


def folders(artifacts: Path, path: str) -> list[str]:
    """Names of the folders in a folder; none where there is no such folder."""
    return sorted(entry.name for entry in _inside(artifacts, path).glob("*") if entry.is_dir())


def _inside(artifacts: Path, path: str) -> Path:
    """The place of a path that a tag may name, which anyone can write. Raises as `copy` does, if it leads elsewhere."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise RegistryError(f"{path!r} is no path among a run's artifacts", fix="find out who changed the tags")
    for parent in [*reversed(relative.parents), relative][1:]:
        manifest.no_link(artifacts / parent)
    return artifacts / relative
