"""The forms in which data sets and APIs name an image: a path, a URL, bytes, or an object with one of these."""

import base64
import binascii
from urllib.parse import unquote_to_bytes, urlsplit

from tunesmith.data.records import RowError
from tunesmith.data.turns.fields import Raw, is_nothing

Source = str | bytes
"""Where an image is: its path, its URL, or its bytes."""
KINDS = ("image", "image_url", "input_image", "image_file")
"""Types of a part that is an image."""
NAMES = ("bytes", "data", "base64", "image_url", "image", "inlineData", "inline_data", "source", "url", "path", "file",
         "image_path")  # fmt: skip
"""Fields of an image that say where it is, in the order in which they are looked for: bytes before their path."""
DESCRIBING = {"type", "detail", "mimeType", "mime_type", "media_type", "format", "index", "text", "cache_control",
              "width", "height"}  # fmt: skip
"""Fields of an image that are not read, or say nothing that its bytes do not."""
BASE64 = ("/9j/", "iVBORw0KGgo", "UklGR")
"""How a JPEG, a PNG and a WebP begin in base64."""


def source(value: object) -> Source:
    """Return where an image is. Raises RowError for a value of another form."""
    if isinstance(value, str | bytes) and value:
        return value
    found = own(value) if isinstance(value, dict) else None
    if found is None:
        kind = f"an object with {', '.join(map(repr, value))}" if isinstance(value, dict) else type(value).__name__
        raise RowError(f"wrong type: an image is {kind}, and neither a path, a URL nor bytes")
    return found


def own(part: Raw) -> Source | None:
    """Return where the image of a part or an object is; None where that is said elsewhere, as in a column.

    Raises RowError for a field that is not known, which may say how the image is to be read.
    """
    held = {name: value for name, value in part.items() if not is_nothing(value)}
    named = next((name for name in NAMES if name in held), None)
    lost = next((name for name in held if name not in DESCRIBING and name not in NAMES), None)
    if lost is not None:
        raise RowError(f"field lost: {lost!r} of an image would not reach the model")
    return None if named is None else source(held[named])


def content(text: str) -> bytes | None:
    """Return the bytes that a data: URL or base64 holds; None for a path or another URL. Raises RowError for neither
    base64 nor percent-encoding."""
    if text.startswith(BASE64) and len(text) > 100:
        return _decoded(text)
    if text[:5].lower() != "data:":
        return None
    kind, comma, data = text[5:].partition(",")
    if not comma:
        raise RowError("image damaged: a data: URL without a comma")
    return _decoded(data) if kind.lower().endswith(";base64") else unquote_to_bytes(data)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RowError("image damaged: its base64 is broken") from None


def path(text: str) -> str:
    """Return the path that a path or a file: URL names. Raises RowError for an address on a network."""
    address = urlsplit(text) if ":" in text else None
    if address is None or len(address.scheme) < 2:
        return text
    if address.scheme != "file":
        raise RowError(
            f"remote image: {text[:80]}: nothing is downloaded, since what is there may change; download it, and name "
            "the file"
        )
    if address.netloc not in ("", "localhost"):
        raise RowError(f"remote image: {text[:80]}: a file of another machine")
    return unquote_to_bytes(address.path).decode(errors="replace")
