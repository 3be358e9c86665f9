"""Vega-Lite documents compiled without a browser."""

import json
from collections.abc import Mapping
from typing import Any

import vl_convert

VERSION = "6.4"
"""The release of Vega-Lite that compiles them, the nearest to ours that the compiler has."""


def compiled(spec: Mapping[str, object], version: str = VERSION) -> dict[str, Any]:
    """The Vega document of a spec. Raises ValueError where it is none, or has a warning of Vega-Lite's."""
    document: dict[str, Any] = vl_convert.vegalite_to_vega(json.dumps(spec), vl_version=version)
    return document


def drawn(spec: Mapping[str, object], version: str = VERSION) -> str:
    """The chart as SVG, on a page 400 wide."""
    svg: str = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 400}), vl_version=version)
    return svg
