"""The folder `images` of ready rows: one file an image, by digest."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import jiter

from tunesmith.core import layout
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row
from tunesmith.data.images import parts


def new(rows: Path) -> Path:
    """Make the folder of images in the folder of ready rows, and return it."""
    folder = rows / layout.IMAGES
    folder.mkdir()
    return folder


def keep(rows: Path) -> int:
    """Remove the images that no row of the splits in a folder shows; return the number of those that stay.

    Without any, the folder goes too. Raises DataError where an image of a row is not there.
    """
    folder = rows / layout.IMAGES
    there = {path.stem: path for path in folder.iterdir()}
    shown = {digest for split in rows.glob("*.jsonl") for digest in _digests(split)} if there else set[str]()
    missing = shown - there.keys()
    if missing:
        raise DataError(f"{folder}: {len(missing):,} images of the rows are not there", fix="run the stage again")
    for digest in there.keys() - shown:
        there[digest].unlink()
    if not shown:
        folder.rmdir()
    return len(shown)


def gather(rows: Path, sources: Sequence[Path]) -> None:
    """Copy the images that the rows of the splits in a folder show from the folders of ready rows that have them.

    Raises DataError where none has one.
    """
    for digest in sorted({digest for split in rows.glob("*.jsonl") for digest in _digests(split)}):
        found = next((path for source in sources if (path := layout.image(source, digest)).is_file()), None)
        if found is None:
            raise DataError(f"{sources[0]}: no image {digest}", fix="`dvc checkout` brings back what the stage wrote")
        (rows / layout.IMAGES).mkdir(exist_ok=True)
        shutil.copyfile(found, rows / layout.IMAGES / found.name)


def _digests(path: Path) -> set[str]:
    found: set[str] = set()
    with path.open("rb") as lines:
        for line in lines:
            if b'"image"' in line:
                row: Row = jiter.from_json(line)
                found.update(part["image"] for part in parts.images(row))
    return found
