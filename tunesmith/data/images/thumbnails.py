"""Images of rows, small enough for a page: thumbnails as data URLs."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunesmith.core import layout
from tunesmith.core.ready_rows import ImagePart

MOST_IN_ROW = 4
"""Thumbnails of a row; further images are counted."""
QUALITY = 75
"""Of JPEG."""


class Thumbnails:
    """Makes thumbnails until those of a page together take a number of bytes."""

    def __init__(self, edge: int, most: int) -> None:
        """edge: the longer side of a thumbnail, in pixels. most: bytes of all of them, as data URLs."""
        self._edge, self._left = edge, most
        self._made: dict[Path, str] = {}

    def of(self, images: Iterable[ImagePart], folder: Path) -> list[str]:
        """Data URLs of the first images; fewer, or none, where the page has no room or a file is not there.

        folder: of the ready rows that the images are of.
        """
        found = []
        for image in list(images)[:MOST_IN_ROW]:
            file = layout.image(folder, image["image"])
            if file not in self._made and file.is_file():
                self._made[file] = data_url(file, self._edge)
            url = self._made.get(file, "")
            if not url or len(url) > self._left:
                break
            self._left -= len(url)
            found.append(url)
        return found


def data_url(file: Path, edge: int) -> str:
    """An image with its longer side at most ``edge`` pixels, as PNG or JPEG, whichever is smaller."""
    from PIL import Image  # which projects without images need not have

    with Image.open(file) as opened:
        opened.draft("RGB", (edge, edge))  # a JPEG is decoded in a smaller size
        image = opened.convert("RGB")
    image.thumbnail((edge, edge))
    return min((_encoded(image, "PNG"), _encoded(image, "JPEG")), key=len)


def _encoded(image: Any, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=QUALITY, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
