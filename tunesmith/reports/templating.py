"""HTML and Markdown pages from templates. All values are escaped, and no page fetches anything from elsewhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunesmith.core import formatting

TEMPLATES = Path(__file__).parent / "templates"
NUMBERS = (
    formatting.percent,
    formatting.points,
    formatting.score,
    formatting.change,
    formatting.interval,
    formatting.count,
    formatting.ratio,
    formatting.seconds,
    formatting.size,
)
"""Filters of every template that write a number."""


def render_html(template: str, **values: object) -> str:
    """An HTML page from one of the templates."""
    return _environment(autoescape=True).get_template(template).render(**values)


def render_markdown(template: str, **values: object) -> str:
    """A Markdown page from one of the templates."""
    environment = _environment(finalize=escaped, keep_trailing_newline=True)
    environment.filters |= {"code": code, "argument": argument}
    return environment.get_template(template).render(**values)


def for_script(value: object) -> Markup:
    """A value as compact JSON that no HTML parser takes for markup. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    escapes: dict[str, str | int | None] = {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
    return Markup(text.translate(str.maketrans(escapes)))


def _environment(
    *,
    autoescape: bool = False,
    finalize: Callable[[object], object] | None = None,
    keep_trailing_newline: bool = False,
) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=keep_trailing_newline,
    )
    environment.filters |= {number.__name__: number for number in NUMBERS}
    return environment


class Markdown(str):
    """Text that is Markdown already, and is not escaped again."""


def escaped(value: object) -> Markdown:
    """A value as Markdown that shows its text on one line and does nothing else."""
    if isinstance(value, Markdown):
        return value
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    # Renderers turn addresses into links even without markup.
    return Markdown(text.replace("://", "&#58;//").replace("@", "&#64;").replace("www.", "www&#46;"))


def code(value: object) -> Markdown:
    """A value as a code span. Only a backtick could end it, or in a table a bar; both are replaced."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return Markdown(f"`{text or ' '}`")


def argument(value: object) -> Markdown:
    """A name as an argument in a block of commands. Other characters, which could start a command, become ``?``."""
    return Markdown(re.sub(r"[^\w@.-]", "?", str(value)))
