"""Image files without their metadata, which no decoder then reads, and what of it decides how an image is turned.

Sources: CIPA DC-008 (EXIF), ECMA TR/98 (JFIF), W3C PNG, RFC 9649 (WebP).
"""

import struct
from typing import Literal

from tunesmith.data.images import headers
from tunesmith.data.records import RowError

ORIENTATION = 0x0112
"""EXIF's tag of how a photograph is turned; 1 is upright."""
EXIF = b"Exif\0\0"
"""How a JPEG's segment of EXIF data begins, and at times that of the other kinds."""
APP0, APP1, ADOBE, COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
"""Markers of a JPEG; Adobe's says how its colours are transformed."""
OF_PIXELS = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L")
"""Chunks of a WebP that decide its pixels."""
TOLD = 0x20 | 0x08 | 0x04
"""Flags of a WebP's first chunk for a colour profile, EXIF and XMP."""


def without(data: bytes, kind: Literal["JPEG", "PNG", "WEBP"]) -> tuple[bytes, int]:
    """Return a file with what decides its pixels alone, and its orientation by EXIF, from 1 to 8.

    Raises RowError for a file that is cut off.
    """
    try:
        match kind:
            case "JPEG":
                return _jpeg(data)
            case "PNG":
                return _png(data)
            case "WEBP":
                return _webp(data)
    except (struct.error, IndexError, ValueError):
        raise RowError("image damaged: it is cut off") from None


def _jpeg(data: bytes) -> tuple[bytes, int]:
    kept, exif = [data[:2]], b""
    for marker, whole in headers.segments(data):
        if marker == APP1 and whole.startswith(EXIF, 4):
            exif += whole[4 + len(EXIF) :]
        elif marker == APP0 and whole.startswith(b"JFIF\0", 4) and len(whole) >= 18:
            kept.append(whole[:2] + b"\0\x10" + whole[4:16] + bytes(2))  # without a thumbnail
        elif marker == ADOBE or not (APP0 <= marker < 0xF0 or marker == COMMENT):
            kept.append(whole)
    return b"".join(kept), _orientation(exif)


def _png(data: bytes) -> tuple[bytes, int]:
    chunks = headers.chunks(data)
    if chunks[-1][0] != b"IEND":
        raise ValueError
    exif = next((whole[8:-4] for name, whole in chunks if name == b"eXIf"), b"")
    kept = [whole for name, whole in chunks if name[:1].isupper() or name == b"tRNS"]  # which is transparency
    return headers.PNG_START + b"".join(kept), _orientation(exif)


def _webp(data: bytes) -> tuple[bytes, int]:
    chunks = headers.riff_chunks(data)
    exif = next((whole[8:] for name, whole in chunks if name == b"EXIF"), b"")
    kept = [
        whole[:8] + bytes([whole[8] & ~TOLD]) + whole[9:] if name == b"VP8X" else whole
        for name, whole in chunks
        if name in OF_PIXELS
    ]
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body, _orientation(exif)


def _orientation(exif: bytes) -> int:
    """Return the orientation that EXIF data gives; 1 where it gives none, or is broken."""
    exif = exif.removeprefix(EXIF)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, place)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", exif, place + 8)
                return value if order and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
