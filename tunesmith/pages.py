"""HTML pages that fetch nothing from elsewhere."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tunesmith import words

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """A page from ``tunesmith/templates``; what is put in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    numbers = (words.percent, words.points, words.count, words.ratio, words.seconds, words.size)
    environment.filters |= {number.__name__: number for number in numbers}
    return environment.get_template(template).render(**values)
