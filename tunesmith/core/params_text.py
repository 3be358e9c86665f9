"""Edits of the text of params.yaml that change a value and nothing else: comments, order and layout stay."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core import params
from tunesmith.core.errors import ParamsError


def with_values(text: str, values: Mapping[str, object], path: Path = params.PATH) -> str:
    """``text`` with the values at these dotted paths; a param that is absent is added where it belongs.

    Raises ParamsError where the text cannot be edited without touching other values, as with anchors.
    """
    expected = _unshared(yaml.safe_load(text))
    ends = "\r\n" if text.count("\r\n") == text.count("\n") > 0 else "\n"
    changed = text.replace(ends, "\n")
    try:
        for place, value in values.items():
            put(expected, place, value)
            changed = _edited(changed, place.split("."), value)
        if yaml.safe_load(changed) == expected:
            return changed.replace("\n", ends)
    except (yaml.YAMLError, TypeError, ValueError, AttributeError):
        pass
    lines = "; ".join(f"{place}: {flow(value)}" for place, value in values.items())
    raise ParamsError(f"{path}: could not be changed without touching other values", fix=f"write by hand: {lines}")


def read(path: Path) -> str:
    """The text of params.yaml with its line ends as they are."""
    return path.read_bytes().decode()


def flow(value: object) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n...\n").strip()


def _unshared(value: Any) -> Any:
    """A copy in which no two places are one object, as an anchor makes them."""
    if isinstance(value, dict):
        return {key: _unshared(below) for key, below in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def put(document: dict[str, object], place: str, value: object) -> None:
    """Set the value at a dotted path of a document, adding the sections around it."""
    *sections, name = place.split(".")
    part: dict[str, object] = document
    for section in sections:
        below = part.get(section)
        part[section] = below if isinstance(below, dict) else {}
        part = part[section]  # type: ignore[assignment]
    part[name] = value


def _edited(text: str, keys: Sequence[str], value: object) -> str:
    """``text`` with one value, in place of the present one, or as a new item of the deepest section that is there."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        raise TypeError("no sections")
    for depth, key in enumerate(keys):
        item = next(((name, below) for name, below in node.value if name.value == key), None)
        if item is None:
            return _added(text, node, key, _nested(keys[depth + 1 :], value), root=depth == 0)
        if depth + 1 == len(keys) or not isinstance(item[1], yaml.MappingNode):
            return _replaced(text, *item, flow(_nested(keys[depth + 1 :], value)))
        node = item[1]
    raise TypeError("no keys")


def _replaced(text: str, name: yaml.Node, node: yaml.Node, replacement: str) -> str:
    """``text`` with a value's text replaced. What stood on lines of its own moves beside its name."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        colon = text.index(":", name.end_mark.index) + 1
        first = node.value[0][0] if isinstance(node, yaml.MappingNode) else node.value[0]
        line = text.rindex("\n", colon, first.start_mark.index)
        end = text.find("\n", _end(node))
        return f"{text[:colon]} {replacement}{text[colon:line]}{text[end:] if end >= 0 else ''}"
    start = node.start_mark.index
    written = text[start : node.end_mark.index].rstrip()
    return text[:start] + ("" if written else " ") + replacement + text[start + len(written) :]


def _end(node: yaml.Node) -> int:
    """The end of a value's last line of text: PyYAML counts comments that follow as its own."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.index) - (node.style in ("|", ">") if isinstance(node, yaml.ScalarNode) else 0)
    last = node.value[-1]
    return _end(last[1] if isinstance(node, yaml.MappingNode) else last)


def _nested(keys: Sequence[str], value: object) -> object:
    for key in reversed(keys):
        value = {key: value}
    return value


def _added(text: str, node: yaml.MappingNode, key: str, value: object, *, root: bool) -> str:
    """``text`` with an item at the end of a mapping on one line or of the document, else before the first line."""
    item = f"{flow(key)}: {flow(value)}"
    if node.flow_style:
        end = node.end_mark.index - 1
        inside = text[:end].rstrip()
        separator = "" if inside.endswith(("{", ",")) else ", "
        return inside + separator + item + text[len(inside) :]
    if root:
        return f"{text.rstrip()}\n\n{item}\n"
    first = node.value[0][0].start_mark  # the mapping's own is that of its anchor
    return f"{text[: first.index]}{item}\n{' ' * first.column}{text[first.index :]}"
