"""Manifests of model folders: the digest of every file, and the check that none has changed.

``manifest.json`` names every other file of a folder with its SHA-256 and size. The folder's digest is the SHA-256 of
the manifest itself; its weights digest covers only the safetensors files, so that two trainings that end in the same
weights agree in it, whatever their journals hold.
"""

import hashlib
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core import files
from tunesmith.core.errors import IntegrityError

NAME = "manifest.json"
WEIGHTS = ".safetensors"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"}
"""Suffixes of formats that can run code when loaded. None may be in a model folder."""


@dataclass(frozen=True)
class Manifest:
    """The files of a folder: relative POSIX path -> {"sha256": hex, "bytes": size}."""

    files: dict[str, dict[str, str | int]]

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the manifest as written."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    @property
    def weights_digest(self) -> str:
        """SHA-256, in hex, over the name and digest of every safetensors file."""
        weights = {name: entry["sha256"] for name, entry in self.files.items() if name.endswith(WEIGHTS)}
        return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()

    @property
    def weights_bytes(self) -> int:
        return sum(int(entry["bytes"]) for name, entry in self.files.items() if name.endswith(WEIGHTS))

    def _text(self) -> str:
        return json.dumps({"files": self.files}, indent=1, sort_keys=True) + "\n"


def write(folder: Path, *, pickles: bool = False) -> Manifest:
    """Write the manifest of ``folder``, last of all its files.

    Raises IntegrityError for a link, and for a pickle unless ``pickles``.
    """
    manifest = Manifest(_measure(folder))
    for name in manifest.files:
        if not pickles and Path(name).suffix in PICKLES:
            raise IntegrityError(
                f"{folder / name}: a model folder may not hold a pickle, which runs code when it is loaded",
                fix="save the weights as safetensors",
            )
    files.write_text(folder / NAME, manifest._text())
    return manifest


def verify(folder: Path, *, weights: bool = True) -> Manifest:
    """Check every byte of ``folder`` against its manifest, the safetensors files only with ``weights``.

    Raises IntegrityError that names each file added, missing or changed.
    """
    manifest = read(folder)
    skip = () if weights else (WEIGHTS,)
    expected = {name: entry for name, entry in manifest.files.items() if not name.endswith(skip)}
    present = _measure(folder, skip)
    if expected == present:
        return manifest
    changed = [
        f"{name} ({'added' if name not in expected else 'missing' if name not in present else 'changed'})"
        for name in sorted(expected.keys() | present.keys())
        if expected.get(name) != present.get(name)
    ]
    raise IntegrityError(
        f"{folder}: differs from its manifest: {', '.join(changed)}",
        fix=f"make it again (`dvc repro`), or bring back the cached copy (`dvc checkout {folder} --force`)",
    )


def read(folder: Path) -> Manifest:
    """The manifest of ``folder``, unchecked. Raises IntegrityError where it is absent or not a manifest."""
    try:
        text = (folder / NAME).read_text()
        manifest = Manifest(json.loads(text)["files"])
        if not isinstance(manifest.files, dict):
            raise ValueError("its files are no object")
        if text != manifest._text():  # the digest covers the manifest to the last byte
            raise ValueError("not as it was written")
        return manifest
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{folder / NAME}: no readable manifest ({error})", fix="make the folder again with `dvc repro`"
        ) from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256, in hex, over the names and bytes of all files of a folder that has no manifest."""
    return Manifest(_measure(folder)).digest


def no_link(path: Path) -> None:
    """Raise IntegrityError for a link."""
    if path.is_symlink():
        raise IntegrityError(f"{path}: a link, which can point anywhere", fix="put the file itself there")


def regular_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, sorted.

    Raises IntegrityError for what is neither a file nor a folder: a link, or a pipe, which a reader would wait for.
    """
    for path in sorted(folder.rglob("*")):
        no_link(path)
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield path
        elif not stat.S_ISDIR(mode):
            raise IntegrityError(f"{path}: not a regular file", fix="find out who put it there, and remove it")


def _measure(folder: Path, skip: tuple[str, ...] = ()) -> dict[str, dict[str, str | int]]:
    files: dict[str, dict[str, str | int]] = {}
    for path in regular_files(folder):
        if path != folder / NAME and not path.name.endswith(skip):
            files[path.relative_to(folder).as_posix()] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
    return files
