"""HTML pages that fetch nothing from elsewhere."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tunesmith.core import formatting

TEMPLATES = Path(__file__).parent / "templates"


def render_html(template: str, **values: Any) -> str:
    """A page from ``tunesmith/reports/templates``; what is put in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    numbers = (
        formatting.percent,
        formatting.points,
        formatting.count,
        formatting.ratio,
        formatting.seconds,
        formatting.size,
    )
    environment.filters |= {number.__name__: number for number in numbers}
    return environment.get_template(template).render(**values)


class Plain(str):
    """What goes into a page as it is."""


def render_markdown(template: str, **values: Any) -> str:
    """A page from ``tunesmith/reports/templates``; what is put in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    numbers = (formatting.percent, formatting.points, formatting.count, formatting.seconds, formatting.size)
    environment.filters |= {number.__name__: number for number in numbers} | {"code": code, "argument": argument}
    return environment.get_template(template).render(**values)


def escaped(value: object) -> Plain:
    """Text as it is, on one line."""
    if isinstance(value, Plain):
        return value
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    # Addresses become links without any markup.
    return Plain(text.replace("://", "&#58;//").replace("@", "&#64;").replace("www.", "www&#46;"))


def code(value: object) -> Plain:
    """In a code span, which nothing leaves but a backtick, and in a table a bar."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return Plain(f"`{text or ' '}`")


def argument(value: object) -> Plain:
    """In a block of commands, where what is no name could be another command."""
    return Plain(re.sub(r"[^\w@.-]", "?", str(value)))
