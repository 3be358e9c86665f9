"""Where the rows of a data set are, with the files of images that they name, and where DVC can watch both."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tunesmith.core import files, layout
from tunesmith.core.errors import DataError
from tunesmith.data import readers
from tunesmith.data.columns import cells
from tunesmith.data.dataset import Dataset
from tunesmith.data.images import markers, sources
from tunesmith.data.images.reader import Reader
from tunesmith.data.images.settings import Images, has_image
from tunesmith.data.readers import Files
from tunesmith.data.records import Record, RowError

FIRST = 1000
"""Rows in which images are looked for."""
WEB = ("https://", "http://")
"""What addresses begin with before the path at which `wget --force-directories` puts their files."""


def find(place: str, name: str) -> tuple[Dataset, Files]:
    """The place of a data set in params.yaml, and its files; those on the hub are downloaded to its cache."""
    if place.startswith("hub:"):
        from tunesmith.cli import hub_data

        source, found, notes = hub_data.fetch(hub_data.parse(place))
        print("\n".join([*(f"note: {note}" for note in notes), *([""] if notes else [])]), end="")
        return Dataset(path=_copy_path(found, name), source=str(source)), found
    path, pattern = readers.split_pattern(place)
    return _with_images(Dataset(path=path, files=pattern), readers.find(path, pattern))


def _with_images(dataset: Dataset, found: Files) -> tuple[Dataset, Files]:
    """A data set whose first rows name files of images: of the folder around its file, which DVC is to watch too."""
    named = list(_image_names(found, FIRST))
    folder = dataset.path if dataset.path.is_dir() else dataset.path.parent
    root = f"{folder.resolve()}/"
    addresses = [place for place in named if sources.ADDRESS.match(place[0])]
    downloaded = Reader(Images(prefixes=WEB), folder, watched=True)
    prefixes = WEB if any(_is_file(downloaded, *place) for place in addresses) else ()
    if len(addresses) == len(named) and not prefixes:
        return dataset, found
    if not dataset.path.is_dir():
        dataset = dataset.model_copy(update={"path": folder, "files": dataset.path.name})
        others = readers.find(folder, dataset.files)
        found = replace(others, ignored=tuple(filter(has_image, others.ignored)))
    if any(name.removeprefix("file://").startswith(root) for name, _ in named):  # which is elsewhere in another clone
        prefixes = (root, *prefixes)
    return dataset.model_copy(update={"images": Images(prefixes=prefixes)}), found


def _is_file(reader: Reader, name: str, file: Path) -> bool:
    try:
        return reader.path(name, file).is_file()
    except RowError:
        return False


def copied(dataset: Dataset, found: Files, name: str) -> Dataset:
    """A data set at the place of its copy in this project.

    Raises DataError for a folder that stages write into, all of whose files would be copied.
    """
    if layout.holds_outputs(dataset.path) and dataset.files is None:
        raise DataError(
            f"{dataset.path}: stages write into this folder",
            fix="name the file of rows in it, or move them into a folder of their own",
        )
    path = layout.RAW / name if _names_images(found) else _copy_path(found, name)
    return dataset.model_copy(update={"path": path, "files": None})


def _copy_path(found: Files, name: str) -> Path:
    """Where a copy of files is: a file, or a folder of several."""
    suffixes = "".join(found.paths[0].suffixes) if len(found.paths) == 1 else ""
    return layout.RAW / f"{name}{suffixes}"


def bring(found: Files, path: Path, images: Images) -> None:
    """Copy the files of a data set, and the files of images that its rows name, to where `copied` says."""
    if path.exists():
        raise DataError(f"{path}: there already", fix="choose another name with --name, or move it away")
    root = found.folder.resolve()
    reader = Reader(images, found.folder, watched=True)
    shown: dict[str, Path] = {}
    for image, file in _image_names(found) if _names_images(found) else ():
        if _is_file(reader, image, file):
            where = reader.path(image, file)
            shown[where.relative_to(root).as_posix()] = where
    alone = len(found.paths) == 1 and not shown
    names = [""] if alone else map(found.relative, found.paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.copy_in(shown | dict(zip(names, found.paths, strict=True)), path)


def _names_images(found: Files) -> bool:
    return any(True for _ in _image_names(found, FIRST))


def _image_names(found: Files, rows: int | None = None) -> Iterator[tuple[str, Path]]:
    """Yield the path or address of each image outside of its row, with the row's file. rows: the first of them."""
    records = (record for file in found.paths for record in readers.read(file))
    for record in itertools.islice(records, rows):
        if isinstance(record, Record):
            yield from ((name, record.file) for name in _named(record))


def _named(record: Record) -> list[str]:
    try:
        taken = markers.take(cells.read(record.fields, table=record.table)[0])
        texts = [source for source in taken.sources if isinstance(source, str)]
        return [text for text in texts if sources.content(text) is None]
    except RowError:
        return []
