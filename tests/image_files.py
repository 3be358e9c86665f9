"""Images for tests: small files of every kind, good, damaged and hostile."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture(seed: int, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Image.Image:
    """Large blocks of random colours, which survive JPEG."""
    colours = np.random.default_rng(seed).integers(0, 256, (2, 3, 4), dtype=np.uint8)
    image = Image.fromarray(colours, "RGBA").resize(size, Image.Resampling.NEAREST)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int, **options: Any) -> bytes:
    return encoded(picture(seed), **options)


def jpeg(seed: int, *, turned: int = 1, **options: Any) -> bytes:
    """A JPEG with EXIF data, in which a photograph may be turned, and a place named."""
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    exif[0x010E] = "Home, sweet home"
    return encoded(picture(seed), "JPEG", exif=exif, **options)


def exif(orientation: int, *, order: str = "<", kind: int = 3, others: int = 0, size: int = 4) -> bytes:
    """EXIF data with the orientation after ``others`` tags, each of which claims ``size`` bytes of it.

    order: < or >, of the bytes in a number. kind: 3, a number of 16 bits, or 4, of 32.
    """
    value = struct.pack(f"{order}{'I' if kind == 4 else 'H'}", orientation).ljust(4, b"\0")
    tags = [struct.pack(f"{order}HHII", 0x9000 + place, 7, size, 8) for place in range(others)]
    tags.append(struct.pack(f"{order}HHI", ORIENTATION, kind, 1) + value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return start + b"".join(tags) + bytes(4)


def with_chunks(content: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks after its header."""
    return content[:33] + b"".join(map(_chunk, chunks)) + content[33:]


def with_segments(content: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments before its others."""
    made = [bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments]
    return content[:2] + b"".join(made) + content[2:]


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    name, body = chunk
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def animated(kind: str) -> bytes:
    frames = [picture(seed) for seed in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of few bytes that decodes to many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def webp_bomb() -> bytes:
    """A WebP whose header alone says 16,384 × 16,384 pixels."""
    extended = bytes(4) + (16383).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended
    return b"RIFF" + struct.pack("<I", len(body)) + body


def url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
