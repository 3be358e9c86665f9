"""`tunesmith params`: the effective values of params.yaml, with the defaults marked."""

from collections.abc import Iterator
from pathlib import Path

import yaml
from rich.console import Console
from rich.text import Text

from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.project import document

DEFAULT = "  # default"


def run(section: str | None, *, everything: bool, path: Path = params.PATH) -> None:
    """Print the effective params of a section or entry, else of the sections in params.yaml, or of all."""
    stated = params.read(path)
    values = document.effective(document.load(path))
    if section is not None:
        values, stated = _at(values, section, path), _nested(stated, section)
    elif not everything:
        values = {name: value for name, value in values.items() if name in stated}
    console = Console(highlight=False, soft_wrap=True)
    for line in lines(values, stated):
        text, mark, _ = line.partition(DEFAULT)
        console.print(Text(text).append(mark, style="dim"))


def lines(values: object, stated: object, depth: int = 0) -> Iterator[str]:
    """The lines of ``values`` as YAML, one a param; a param that is not ``stated`` is marked as a default."""
    for name, value in values.items() if isinstance(values, dict) else ():
        entries = stated if isinstance(stated, dict) else {}
        if isinstance(value, dict) and value:
            yield f"{'  ' * depth}{name}:"
            yield from lines(value, entries.get(name), depth + 1)
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
            yield f"{'  ' * depth}{name}: {text}{'' if name in entries else DEFAULT}"


def _at(values: dict[str, object], section: str, path: Path) -> dict[str, object]:
    """The part of ``values`` at a dotted path. Raises ParamsError for a path that does not exist."""
    part: object = values
    for name in section.split("."):
        if not isinstance(part, dict) or name not in part:
            names = list(part) if isinstance(part, dict) else []
            raise ParamsError(
                f"{path}: no params at {section!r}{params.meant(name, names)}",
                fix=f"name one of {', '.join(names)}" if names else "name the section that it is in",
            )
        part = part[name]
    return part if isinstance(part, dict) else {section.rpartition(".")[2]: part}


def _nested(stated: object, section: str) -> dict[str, object]:
    """The part of params.yaml at a dotted path, a lone value by its name; empty where it has none."""
    name, parent = "", stated
    for name in section.split("."):
        parent, stated = stated, stated.get(name) if isinstance(stated, dict) else None
    if isinstance(stated, dict):
        return stated
    return {name: stated} if isinstance(parent, dict) and name in parent else {}
