"""Images read from where a row says they are, and nowhere else, and stored by digest. It may run in any process."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import ImagePart
from tunesmith.data.images import sources
from tunesmith.data.images.settings import Images
from tunesmith.data.images.sources import Source
from tunesmith.data.records import RowError

REMEMBERED = 10_000
"""Files whose images are not read again, since rows that follow one another often show the same."""


LONGEST = 1000
"""Characters of a path."""
ELSEWHERE = "; put the images there, and name what their paths begin with in data.<dataset>.images.prefixes"
"""What to do about absolute paths."""
LONGEST_ADDRESS = 10_000
"""Characters of an address, some of which hold a signature."""


class Found(NamedTuple):
    """An image that was read, and what of its pixels was changed."""

    part: ImagePart
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """Reads the images of a data set.

    folder: what the rows' files are in; every image lies in it. watched: whether DVC sees when a file in it changes.
    store: the folder where images go, which exists; None where they are only checked.
    """

    limits: Images
    folder: Path
    watched: bool
    store: Path | None = None
    _files: dict[Path, Found | RowError] = field(default_factory=dict, repr=False)

    def images(self, found: Sequence[Source], file: Path, line: int) -> list[Found]:
        """Return the images of a row of ``file``. Raises RowError where one cannot be used.

        Raises DataError where the store is on another machine.
        """
        if len(found) > self.limits.max_per_row:
            raise RowError(f"too many images: {len(found)}, and images.max_per_row is {self.limits.max_per_row}")
        if self.store is not None and not self.store.is_dir():
            raise DataError(
                f"{file}:{line}: the row has an image, and images are on the machine that the project is on",
                fix="prepare this data set there, with runtime.engine: host",
            )
        return [self._image(source, file) for source in found]

    def _image(self, source: Source, file: Path) -> Found:
        content = source if isinstance(source, bytes) else sources.content(source)
        if content is not None:
            return self._read(content)
        path = self.path(str(source), file)
        if not self.watched:
            raise RowError(
                f"image not watched: DVC sees no change of {path.name[:80]!r} beside a file of rows; put both into a "
                "folder of their own, and name that in data.<dataset>.path and the file in .files"
            )
        if path not in self._files:
            if len(self._files) == REMEMBERED:
                self._files.clear()
            self._files[path] = self._read_file(path)
        read = self._files[path]
        if isinstance(read, RowError):
            raise read
        return read

    def path(self, source: str, file: Path) -> Path:
        """Return the file that a path or an address names: beside the rows' file, or below the data set's folder.

        Raises RowError where there is none.
        """
        if len(source) > LONGEST_ADDRESS:
            raise RowError(f"image missing: {source[:80]!r}… is no path: it has over {LONGEST_ADDRESS:,} characters")
        name = self._without_prefix(source)
        if name is None:
            named = sources.path(source)
            name = self._without_prefix(named) or named
        if "\0" in name or len(name) > LONGEST:
            raise RowError(f"image missing: {name[:80]!r}… is no path: it has over {LONGEST:,} characters, or a NUL")
        root = self.folder.resolve()
        folders = [self.folder / self.limits.folder]
        if not self.limits.folder:
            folders = [file.parent, *folders]
        names = dict.fromkeys([name, name.replace("\\", "/"), unquote(name)])  # as Windows and URLs write it
        for place in [folder / name for name in names for folder in folders]:
            try:
                path = place.resolve()
                if not path.is_relative_to(root):
                    fix = ELSEWHERE if name.startswith("/") else ""
                    raise RowError(f"image outside the data: {name[:200]!r} is not below {self.folder}{fix}")
                if path.is_file():
                    return path
            except (OSError, RuntimeError, ValueError):  # a name too long, a circle of links, half a character
                continue
        fix = ELSEWHERE if PureWindowsPath(name).drive else ""
        raise RowError(f"image missing: no file {name[:200]!r} below {folders[-1]}{fix}")

    def _without_prefix(self, text: str) -> str | None:
        """Return what follows the first of `prefixes` that a text begins with; None where it begins with none."""
        prefix = next((prefix for prefix in self.limits.prefixes if text.startswith(prefix)), None)
        return None if prefix is None else text.removeprefix(prefix).lstrip("/\\")

    def _read_file(self, path: Path) -> Found | RowError:
        try:
            return self._read(self._content(path))
        except RowError as error:  # which other rows meet too
            return RowError(*error.args)

    def _content(self, path: Path) -> bytes:
        """Return the bytes of a file, of a larger one than is allowed one more than that."""
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self.limits.max_bytes:
                    allowed = f"and images.max_bytes is {self.limits.max_bytes:,}"
                    raise RowError(f"image too large: {path.name} has {size:,} bytes, {allowed}")
                return file.read(self.limits.max_bytes + 1)
        except OSError as error:
            raise RowError(f"image missing: {path.name} cannot be read: {error.strerror}") from None

    def _read(self, content: bytes) -> Found:
        from tunesmith.data.images import normal  # params are read without Pillow

        image = normal.normal(content, self.limits)
        if self.store is not None:
            _put(self.store / f"{image.part['image']}{image.suffix}", image.content)
        return Found(image.part, image.remarks)


def _put(path: Path, content: bytes) -> None:
    """Write a file whose name says what it holds, so that another writer of it does no harm."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        partial.write_bytes(content)
        partial.replace(path)
