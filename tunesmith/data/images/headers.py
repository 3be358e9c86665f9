"""The headers of image files, by which they are judged before anything is decoded, and the parts that files consist of.

Sources: ITU T.81 (JPEG), W3C PNG, RFC 9649 (WebP).
"""

import re
import struct
from typing import Literal, NamedTuple, TypeVar

from tunesmith.data.records import RowError

PNG_START = b"\x89PNG\r\n\x1a\n"
OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"\0\0\1\0": "an ICO",
    b"%PDF": "a PDF",
    b"%!PS": "an EPS",
    b"<svg": "an SVG",
    b"<?xml": "an SVG, or XML",
    b"<!DOCTYPE": "a web page, such as the error of a failed download",
    b"<html": "a web page, such as the error of a failed download",
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` brings the file",
}
"""Files of other kinds, by how they begin."""
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header, which has its size."""
SCAN = 0xDA
MOST_SCANNED = 1_000_000_000
"""Pixels of all scans of a JPEG together, which take about three seconds; encoders make about ten scans."""
MOST_PARTS = 100_000
"""Segments of a JPEG, or chunks of a PNG or a WebP; those of a file of 400 MB have 4 kB each."""
LEAST_SCANS, LEAST_PIXELS = 20, 1_000_000
"""Scans that no image is too large for, and pixels that every scan counts with."""
NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker with content. Others stand alone, and FF is followed by 00 in the data of a scan, and by FF to fill."""


Part = TypeVar("Part")


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
    parts = segments(data)
    scans = sum(marker == SCAN for marker, _ in parts)
    for marker, whole in parts:
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", whole, 5)
            if scans > LEAST_SCANS and scans * max(width * height, LEAST_PIXELS) > MOST_SCANNED:
                raise RowError(f"image too large: it has {scans:,} scans, each of which takes as long as an image")
            return Header("JPEG", width, height, animated=False)
    raise ValueError


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """Return the segments of a JPEG up to its end, each with its marker: FF, the marker, two bytes of length, content,
    and the data of a scan.

    Raises ValueError or struct.error where one is cut off, and RowError for too many.
    """
    found: list[tuple[int, bytes]] = []
    place = 2
    while following := NEXT_MARKER.search(data, place):
        place = following.start()
        marker = data[place + 1]
        if marker == 0xD9:
            return [*found, (marker, data[place : place + 2])]
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("cut off")
        if marker == SCAN:
            following = NEXT_MARKER.search(data, end)
            end = following.start() if following else len(data)
        _add(found, (marker, data[place:end]))
        place = end
    if not found or found[-1][0] != SCAN:
        raise ValueError("cut off")
    return found


def _png(data: bytes) -> Header:
    parts = chunks(data)
    name, whole = parts[0]
    if name != b"IHDR":
        raise ValueError
    width, height = struct.unpack_from(">II", whole, 8)
    frames = [struct.unpack_from(">I", chunk, 8)[0] for name, chunk in parts if name == b"acTL"]
    return Header("PNG", width, height, animated=any(count > 1 for count in frames))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG up to its end, or to where it is cut off, each with its name: four bytes of length,
    the name, content, and a checksum. Raises RowError for too many.
    """
    place = len(PNG_START)
    found: list[tuple[bytes, bytes]] = []
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name = data[place + 4 : place + 8]
        _add(found, (name, data[place : place + 12 + length]))
        place += 12 + length
        if name == b"IEND":
            break
    return found


def riff_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a WebP, each with its name: the name, four bytes of length, content, and a byte that makes
    its length even. Raises ValueError where one is cut off, and RowError for too many.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) + 1:
        raise ValueError("cut off")
    place = 12
    found: list[tuple[bytes, bytes]] = []
    while place + 8 <= min(end, len(data)):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        whole = data[place : place + 8 + length]
        if len(whole) < 8 + length:
            raise ValueError("cut off")
        _add(found, (data[place : place + 4], whole + bytes(length % 2)))
        place += 8 + length + length % 2
    return found


def _add(found: list[Part], part: Part) -> None:
    if len(found) == MOST_PARTS:
        raise RowError(f"image too large: it consists of over {MOST_PARTS:,} parts")
    found.append(part)


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
