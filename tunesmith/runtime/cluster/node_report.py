"""The report of a machine on its Python, libraries and image, at home and on each node."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from tunesmith.core import layout


class Report(TypedDict):
    """The versions that a machine runs."""

    name: str
    """The address or name of the machine."""
    python: str
    """The version of Python, such as 3.11."""
    ray: str | None
    tunesmith: str | None
    image: str | None
    """The digest of the image that the machine runs in, by the variable `layout.IMAGE_DIGEST_VARIABLE`."""


def report() -> Report:
    """The report of this machine."""
    return {
        "name": platform.node(),
        "python": python(),
        "ray": _version("ray"),
        "tunesmith": _version("tunesmith"),
        "image": os.environ.get(layout.IMAGE_DIGEST_VARIABLE),
    }


def python() -> str:
    """The version of this Python, such as 3.11."""
    return ".".join(map(str, sys.version_info[:2]))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
