"""The params of a data set's images, and what is known of them once they are read."""

from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, PositiveInt

from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Row
from tunesmith.data.columns.names import IMAGE_SUFFIXES
from tunesmith.data.images import parts

MOST_PIXELS = 89_478_485
"""From here on Pillow warns of a decompression bomb: a quarter of a GiB in RGB."""


def _below_folder(folder: str) -> str:
    if ".." in PurePosixPath(folder).parts or folder.startswith("/"):
        raise ValueError("not a folder below the data set's `path`")
    return folder


def has_image(path: Path) -> bool:
    """Tell whether a file is named like an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


class Images(Section):
    """The images of a data set's rows: JPEG, PNG and WebP."""

    folder: Annotated[str, AfterValidator(_below_folder)] = ""
    """Folder below `path` that the paths of images start from, where it is not the folder of the rows' file."""
    prefixes: tuple[str, ...] = ()
    """What paths and addresses of images begin with that stands for that folder, such as /mnt/photos/ or https://."""
    max_bytes: PositiveInt = 10 * 2**20
    """Largest file, in bytes; the row of a larger one is set aside."""
    max_pixels: Annotated[PositiveInt, Field(le=MOST_PIXELS)] = 50_000_000
    """Largest product of width and height; judged by the header, before anything is decoded."""
    max_per_row: PositiveInt = 10
    """Most images of a row; a row with more is set aside."""


class Size(NamedTuple):
    """The size of an image in pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


class Seen(NamedTuple):
    """The images of good rows."""

    rows: int = 0
    """Rows that have any."""
    images: int = 0
    """Images of all rows; one that two rows have counts twice."""
    smallest: Size = Size(0, 0)
    largest: Size = Size(0, 0)

    def __add__(self, other: "Seen") -> "Seen":  # type: ignore[override]
        if not self.images or not other.images:
            return self if self.images else other
        smallest = min(self.smallest, other.smallest, key=lambda size: size.pixels)
        largest = max(self.largest, other.largest, key=lambda size: size.pixels)
        return Seen(self.rows + other.rows, self.images + other.images, smallest, largest)

    def lines(self) -> list[str]:
        """Return one line about them; none where there are none."""
        if not self.images:
            return []
        ends = dict.fromkeys(f"{size.width:,} × {size.height:,}" for size in (self.smallest, self.largest))
        sizes = " to ".join(ends)
        return [f"images: {self.images:,} in {self.rows:,} rows, {sizes} pixels"]


def seen(row: Row) -> Seen:
    """Return what is known of the images of one row."""
    sizes = [Size(part["width"], part["height"]) for part in parts.images(row)]
    if not sizes:
        return Seen()
    return Seen(1, len(sizes), min(sizes, key=lambda size: size.pixels), max(sizes, key=lambda size: size.pixels))
