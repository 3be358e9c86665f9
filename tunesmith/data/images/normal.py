"""The one form of an image: RGB, upright, without metadata, as the bytes of a PNG or a JPEG."""

import hashlib
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from tunesmith.core.ready_rows import ImagePart
from tunesmith.data.images import headers, metadata
from tunesmith.data.images.settings import Images
from tunesmith.data.records import RowError

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each orientation upright."""
TURNED = "an image turned upright, as its EXIF data says"
LAID_ON_WHITE = "an image with transparency, laid on white"
CONVERTED = "an image whose colours were converted to RGB"
COMPRESSION = 4
"""Level of a PNG's compression: half the time of the usual 6, for about 3% more bytes."""


class Normal(NamedTuple):
    """An image in its one form."""

    part: ImagePart
    content: bytes
    suffix: str
    """.png or .jpg."""
    remarks: tuple[str, ...]
    """What of its pixels was changed."""


def normal(data: bytes, limits: Images) -> Normal:
    """Return an image in its one form. Raises RowError where it is too large, of another kind, or damaged.

    The pixels of a JPEG or a PNG that has that form but for its metadata are not encoded again.
    """
    if len(data) > limits.max_bytes:
        raise RowError(f"image too large: {len(data):,} bytes, and images.max_bytes is {limits.max_bytes:,}")
    header = headers.read(data)
    if header.animated:
        raise RowError("image of another kind: it is animated, and a film is not supported")
    if header.width * header.height > limits.max_pixels:
        size = f"{header.width:,} × {header.height:,} pixels"
        raise RowError(f"image too large: {size}, and images.max_pixels is {limits.max_pixels:,}")
    if not header.width or not header.height:
        raise RowError("image damaged: it has no pixels")
    try:
        content, orientation = metadata.without(data, header.kind)
        image = _decoded(content, header)
        remarks: list[str] = []
        deep = header.kind == "PNG" and data[24] > 8  # bits of each colour
        if header.kind == "WEBP" or orientation != 1 or deep or image.mode != "RGB" or image.has_transparency_data:
            image, remarks = _in_rgb(image, orientation)
            content = _png(image)
            if deep and CONVERTED not in remarks:
                remarks.append(CONVERTED)
    except (RowError, MemoryError):  # the latter is the machine's
        raise
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise RowError(f"image damaged: {' '.join(str(error).split())[:80] or type(error).__name__}") from None
    suffix = ".jpg" if content.startswith(b"\xff\xd8") else ".png"
    part: ImagePart = {
        "type": "image",
        "image": hashlib.sha256(content).hexdigest(),
        "width": image.width,
        "height": image.height,
    }
    return Normal(part, content, suffix, tuple(remarks))


def _decoded(content: bytes, header: headers.Header) -> Image.Image:
    """Decode a file without metadata. Raises RowError where its size is not that of its header."""
    image = Image.open(io.BytesIO(content), formats=[header.kind])
    if image.size != (header.width, header.height):
        raise RowError("image damaged: its headers give different sizes")
    image.load()
    return image


def _in_rgb(image: Image.Image, orientation: int) -> tuple[Image.Image, list[str]]:
    """Return an image upright and in RGB, and what was changed."""
    remarks = []
    if orientation != 1:
        image = image.transpose(UPRIGHT[orientation])
        remarks.append(TURNED)
    if image.mode.startswith("I"):  # a grey PNG of 16 bits, which Pillow would cut off at 255
        image = Image.fromarray(np.right_shift(np.asarray(image), 8).astype(np.uint8))
        remarks.append(CONVERTED)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        opacity = image.getchannel("A")
        image = image.convert("RGB")
        if opacity.getextrema() != (255, 255):
            background = Image.new("RGB", image.size, "white")
            background.paste(image, mask=opacity)
            image = background
            remarks.append(LAID_ON_WHITE)
    elif image.mode != "RGB" and CONVERTED not in remarks:
        remarks.append(CONVERTED)
    return image if image.mode == "RGB" else image.convert("RGB"), remarks


def _png(image: Image.Image) -> bytes:
    image.info.clear()  # which Pillow would write
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=COMPRESSION)
    return buffer.getvalue()
