"""The forms in which data sets and APIs name an image: a path, a URL, bytes, or an object with one of these."""

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

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
BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|UklGR)[^.]{40}")
"""How a JPEG, a PNG and a WebP begin in base64."""
URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
"""Base64's alphabet for URLs, which some libraries write, in the usual one."""
ENCODED = ((b"%2B", b"+"), (b"%2b", b"+"), (b"%2F", b"/"), (b"%2f", b"/"), (b"%3D", b"="), (b"%3d", b"="))
"""Characters of base64 as URLs may have them."""
LONGEST_PLAIN = 100_000
"""Characters of a data: URL without base64."""
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
FILE = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>[^?#]*)", re.IGNORECASE)


def source(value: object) -> Source:
    """Return where an image is. Raises RowError for a value of another form."""
    if is_nothing(value) or (isinstance(value, dict) and all(map(is_nothing, value.values()))):
        raise RowError("image missing: an empty value is in its place")
    if isinstance(value, str | bytes):
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
    if BASE64.match(text):
        return _decoded(text)
    if text[:5].lower() != "data:":
        return None
    kind, comma, data = text[5:].partition(",")
    if not comma:
        raise RowError("image damaged: a data: URL without a comma")
    if kind.lower().endswith(";base64"):
        return _decoded(data)
    if len(data) > LONGEST_PLAIN:
        raise RowError(f"image damaged: a data: URL of over {LONGEST_PLAIN:,} characters without base64")
    return unquote_to_bytes(data)


def _decoded(text: str) -> bytes:
    """Decode base64 as browsers do: white space, percent-encoding, and missing = at the end do not matter."""
    try:
        plain = text.encode("ascii").translate(URL_ALPHABET, b" \t\r\n\f")
        for written, character in ENCODED:
            plain = plain.replace(written, character)
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RowError("image damaged: its base64 is broken") from None


def path(text: str) -> str:
    """Return the path that a path or a file: URL names. Raises RowError for an address on a network."""
    if file := FILE.match(text):
        if (file["host"] or "").lower() not in ("", "localhost"):
            raise RowError(f"remote image: {text[:80]}: a file of another machine")
        return unquote_to_bytes(file["path"]).decode(errors="replace")
    if ADDRESS.match(text):
        raise RowError(
            f"remote image: {text[:80]}: nothing is downloaded here, since what is there may change; download it into "
            "the data set's folder, and name what the address begins with in data.<dataset>.images.prefixes"
        )
    return text
