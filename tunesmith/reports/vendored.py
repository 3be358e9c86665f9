"""Libraries in JavaScript that pages carry: minified releases of the npm registry, in vendor/ (docs/decisions/051)."""

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from tunesmith.core.errors import IntegrityError

FOLDER = Path(__file__).parent / "vendor"
CHARTS = ("vega", "vega-lite", "vega-embed")
"""The libraries that draw charts, in the order in which they load."""
TEXTS = ("markdown-it", "diff")
"""The libraries that show answers: as Markdown, and the words in which two differ."""


class Library(TypedDict):
    """A vendored library: its minified file, which a stage's fingerprint finds by this name, the release, and SHA-256,
    in hex.
    """

    file: str
    version: str
    sha256: str


@cache
def libraries() -> dict[str, Library]:
    """All vendored libraries, by name."""
    versions: dict[str, Library] = json.loads((FOLDER / "versions.json").read_text())
    return versions


@cache
def script(*names: str) -> Markup:
    """Libraries as the text of one script element, in that order.

    Raises IntegrityError for a file that is not the one of versions.json.
    """
    files = [_verified(libraries()[name]) for name in names]
    # The maps of the sources are not there.
    lines = [line for text in files for line in text.splitlines() if not line.startswith("//# sourceMappingURL=")]
    # HTML parsers take "<!--" in a script for the start of a comment; in strings and patterns, this is the same.
    return Markup("\n".join(lines).replace("<!--", r"\x3C!--"))


def _verified(library: Library) -> str:
    path = FOLDER / library["file"]
    content = path.read_bytes()
    if (digest := sha256(content).hexdigest()) != library["sha256"]:
        raise IntegrityError(
            f"{path}: its SHA-256 is {digest[:12]}…, and versions.json says {library['sha256'][:12]}…",
            fix="install tunesmith again",
        )
    return content.decode()
