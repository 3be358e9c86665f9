"""The files of images that rows name: watched by DVC beside the rows, and copied with them into a project."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tunesmith.core import layout
from tunesmith.core.errors import DataError
from tunesmith.data import readers
from tunesmith.data.columns import cells
from tunesmith.data.dataset import Dataset
from tunesmith.data.images import markers, sources
from tunesmith.data.readers import Files
from tunesmith.data.records import Record, RowError

FIRST = 1000
"""Rows of a file in which images are looked for."""


def with_folder(dataset: Dataset, found: Files) -> tuple[Dataset, Files]:
    """A data set of one file, or of the folder around it where its first rows name files of images, which DVC is to
    watch too; not where that folder is a project."""
    folder = dataset.path.parent
    if dataset.path.is_dir() or folder == Path() or (folder / "params.yaml").exists():
        return dataset, found
    if next(_named(dataset.path, FIRST), None) is None:
        return dataset, found
    dataset = dataset.model_copy(update={"path": folder, "files": dataset.path.name})
    return dataset, readers.find(dataset.path, dataset.files)


def holds_outputs(folder: Path) -> bool:
    """Whether stages of the project in the current folder write below ``folder``, which no data set may then be."""
    return layout.READY.resolve().is_relative_to(folder.resolve())


def find(found: Files) -> dict[str, Path]:
    """The files of images that rows name, by their path below the folder of the rows; those that lie outside of it, or
    are not there, are left out.

    Raises DataError where a row names one by an absolute path, which a copy of the rows would not find.
    """
    images: dict[str, Path] = {}
    for file in found.paths:
        if next(_named(file, FIRST), None) is None:
            continue
        for line, name in _named(file):
            if Path(name).is_absolute():
                raise DataError(
                    f"{file}:{line}: names an image by an absolute path, {name[:200]}",
                    fix="name images by paths from the folder of the rows, or move the folder into this repository",
                )
            for place in (file.parent / name, found.folder / name):
                if (image := _below(place, found.folder)) is not None:
                    images[os.path.relpath(place, found.folder)] = image
                    break
    return images


def _named(file: Path, most: int | None = None) -> Iterator[tuple[int, str]]:
    """The paths that rows name images by, each with its line; of the first ``most`` rows."""
    for record in itertools.islice(readers.read(file), most):
        if not isinstance(record, Record):
            continue
        try:
            taken = markers.take(cells.read(record.fields, table=record.table)[0]).sources
            paths = [sources.path(one) for one in taken if isinstance(one, str) and sources.content(one) is None]
        except RowError:  # the row is set aside
            continue
        yield from ((record.line, path) for path in paths)


def _below(place: Path, folder: Path) -> Path | None:
    """The file at ``place``, if it lies below ``folder``, links followed."""
    try:
        path = place.resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, a circle of links, half a character
        return None
