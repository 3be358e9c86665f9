"""The headers of image files, by which they are judged before anything is decoded, and files without their metadata.

Sources: ITU T.81 (JPEG), W3C PNG, RFC 9649 (WebP).
"""

import re
import struct
from typing import Literal, NamedTuple

from tunesmith.data.records import RowError

PNG_START = b"\x89PNG\r\n\x1a\n"
OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xml": "an SVG, or XML",
    b"<!DOCTYPE": "a web page, such as the error of a failed download",
    b"<html": "a web page, such as the error of a failed download",
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` brings the file",
}
"""Files of other kinds, by how they begin."""
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header, which has its size."""
ALONE = {0x00, 0x01, *range(0xD0, 0xD8), 0xFF}
"""Markers without content, and fill bytes."""
SCAN = 0xDA
MOST_SCANS = 200
"""Scans of a progressive JPEG; encoders make about ten."""
ADOBE = 0xEE
"""The marker with the transformation of a JPEG's colours."""
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The marker after a scan of a JPEG, in whose data FF is followed by 00 or a restart marker."""


class Header(NamedTuple):
    """What the header of an image file says."""

    kind: Literal["JPEG", "PNG", "WEBP"]
    width: int
    height: int
    animated: bool


def read(data: bytes) -> Header:
    """Read the header of a file. Raises RowError for a file of another kind, and for a header that is cut off."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(PNG_START):
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError, ValueError):
        raise RowError("image damaged: its header is cut off or broken") from None
    name = next((name for start, name in OTHERS.items() if data.lstrip()[: len(start)].lower() == start.lower()), "")
    name = name or ("a HEIC, an AVIF or a film" if data[4:8] == b"ftyp" else "no image")
    raise RowError(f"image of another kind: it is {name}, and JPEG, PNG and WebP are read")


def _jpeg(data: bytes) -> Header:
    segments = _segments(data)
    scans = sum(marker == SCAN for marker, _, _ in segments)
    if scans > MOST_SCANS:
        raise RowError(f"image too large: it has {scans:,} scans, each of which takes as long as an image")
    for marker, _, body in segments:
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", body, 1)
            return Header("JPEG", width, height, animated=False)
    raise ValueError


def _segments(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return the segments of a JPEG: marker, bytes with the scan that follows, content. The last is the end of image.

    Raises ValueError or IndexError where one is cut off.
    """
    found: list[tuple[int, bytes, bytes]] = []
    place = 2
    while True:
        place = data.index(b"\xff", place)
        marker = data[place + 1]
        if marker == 0xD9:
            return [*found, (marker, data[place : place + 2], b"")]
        if marker in ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("cut off")
        body = data[place + 4 : end]
        if marker == SCAN:
            following = NEXT_MARKER.search(data, end)
            end = following.start() if following else len(data)
        found.append((marker, data[place:end], body))
        if end == len(data):
            return found
        place = end


def _png(data: bytes) -> Header:
    chunks = _chunks(data)
    name, whole = chunks[0]
    if name != b"IHDR":
        raise ValueError
    width, height = struct.unpack_from(">II", whole, 8)
    frames = [struct.unpack_from(">I", chunk, 8)[0] for name, chunk in chunks if name == b"acTL"]
    return Header("PNG", width, height, animated=any(count > 1 for count in frames))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG up to its end, or to where it is cut off: name, and bytes as a whole."""
    place, found = len(PNG_START), []
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name = data[place + 4 : place + 8]
        found.append((name, data[place : place + 12 + length]))
        place += 12 + length
        if name == b"IEND":
            break
    return found


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
        return Header("WEBP", width, height, animated=bool(data[20] & 2))
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, animated=False)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF, animated=False)
    raise ValueError


def without_metadata(data: bytes, kind: Literal["JPEG", "PNG"]) -> bytes:
    """Return a file with what decides its pixels alone. Raises RowError for a file that is cut off."""
    if kind == "PNG":
        chunks = _chunks(data)
        if chunks[-1][0] != b"IEND":
            raise RowError("image damaged: it is cut off")
        return PNG_START + b"".join(chunk for name, chunk in chunks if name[:1].isupper())
    try:
        segments = _segments(data)
    except (struct.error, IndexError, ValueError):
        raise RowError("image damaged: it is cut off") from None
    said = {*range(0xE0, 0xF0), 0xFE} - {0xE0, ADOBE}
    return data[:2] + b"".join(whole for marker, whole, _ in segments if marker not in said)
