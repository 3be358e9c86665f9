"""Images in the checks of rows: put in the place of their marks, counted in tokens, and told apart by digest."""

import hashlib
from collections.abc import Sequence

from tunesmith.core.ready_rows import Row
from tunesmith.data.images import parts
from tunesmith.data.images.reader import Reader
from tunesmith.data.images.sources import Source
from tunesmith.data.lengths import Lengths
from tunesmith.data.records import Record, RowError


def with_images(
    row: Row, sources: list[Source], record: Record, reader: Reader, lengths: Lengths | None
) -> tuple[Row, list[tuple[str, str]]]:
    """Put the images of a row in the place of their marks; also return what of their pixels was changed, and where.

    Raises RowError where an image cannot be used, or the base takes none.
    """
    if not sources:
        return row, []
    if lengths is not None and lengths.image_tokens is None:
        fix = "choose one that does, or name the column of images in data.<dataset>.ignore"
        raise RowError(f"image: the base model takes none: {lengths.no_images}; {fix}")
    found = reader.images(sources, record.file, record.line)
    named = [source if isinstance(source, str) and len(source) < 200 else "" for source in sources]
    changed = [(remark, name) for one, name in zip(found, named, strict=True) for remark in one.remarks]
    return parts.with_images(row, [one.part for one in found]), changed


def tokens(rows: Sequence[Row], lengths: Lengths) -> list[int]:
    """Return the tokens of the images of each row."""
    sizes = [[(part["width"], part["height"]) for part in parts.images(row)] for row in rows]
    if lengths.image_tokens is None or not any(sizes):
        return [0] * len(rows)
    counts = iter(lengths.image_tokens([size for of_row in sizes for size in of_row]))
    return [sum(next(counts) for _ in of_row) for of_row in sizes]


def salt(row: Row) -> int:
    """Return a number that tells texts about other images apart; 0 for a row without images."""
    digests = sorted({part["image"] for part in parts.images(row)})
    return int.from_bytes(hashlib.sha256(" ".join(digests).encode()).digest()[:8]) if digests else 0
