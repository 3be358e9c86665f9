"""Values as text, between processes that do not trust each other.

Values of the exact built-in types None, bool, int, float, str, bytes, list, tuple, dict, set and frozenset are sent as
JSON: null, true, 1, 1.0 (and NaN), "s", ``{"bytes": hex}``, ``[...]``, ``{"tuple": [...]}``, ``{"dict": [[key, value],
...]}``, ``{"set": [...]}``. Never a pickle. This module runs on both sides, so it imports nothing but `json`.

A process that holds something worth attacking calls only `parse`, which builds no set and no dict: a hostile set of
colliding integers takes minutes to build. `value` builds them, and runs inside the sandbox.
"""

import json
from typing import Any

DEEPEST = 50
"""Levels of nesting."""
PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset)
GROUPS = {"tuple": tuple, "set": set, "frozenset": frozenset}


class WireError(ValueError):
    """A value that cannot be sent, or a text that this module did not write."""


def tree(value: object, *, exact: bool = True) -> object:
    """The JSON tree that stands for a value. Raises WireError for another type, and for nesting too deep.

    With ``exact`` false, an instance of a subclass (a Counter, a named tuple) is sent as the built-in that it is.
    """
    return _tagged(value, exact, DEEPEST)


def dump(tree: object) -> bytes:
    """Write a tree as text. Raises WireError for an integer of over 4300 digits, which takes too long to write."""
    try:
        return json.dumps(tree, separators=(",", ":")).encode("ascii")
    except ValueError as error:
        raise WireError(str(error)) from None


def parse(data: bytes) -> object:
    """Read a tree, and check that every part of it stands for a value. Raises WireError."""
    try:
        tree = json.loads(data)
        _check(tree, DEEPEST)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a value: {error}") from None
    return tree


def value(tree: object) -> object:
    """Build the value that a parsed tree stands for. Raises WireError for a key or a member of a set without a hash."""
    if isinstance(tree, list):
        return [value(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    [(kind, inner)] = tree.items()
    try:
        if kind == "bytes":
            return bytes.fromhex(inner)
        if kind == "dict":
            return {value(key): value(item) for key, item in inner}
        return GROUPS[kind](map(value, inner))
    except TypeError as error:
        raise WireError(str(error)) from None


def _tagged(value: Any, exact: bool, depth: int) -> object:
    if depth == 0:
        raise WireError("too deeply nested to be sent")
    kind = type(value)
    if not exact and kind not in PLAIN:
        kind = next((base for base in PLAIN if isinstance(value, base)), kind)
        value = kind(value) if kind in PLAIN else value
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is dict:
        return {"dict": [[_tagged(part, exact, depth - 1) for part in item] for item in value.items()]}
    if kind not in PLAIN:
        raise WireError(f"a {kind.__name__!r} cannot be sent, only exact built-in types")
    items = [_tagged(item, exact, depth - 1) for item in value]
    return items if kind is list else {kind.__name__: items}


def _check(tree: object, depth: int) -> None:
    if depth == 0:
        raise WireError("too deeply nested")
    if isinstance(tree, list):
        for item in tree:
            _check(item, depth - 1)
    elif isinstance(tree, dict):
        if len(tree) != 1:
            raise WireError("an object with other than one key")
        [(kind, inner)] = tree.items()
        if kind == "bytes" and isinstance(inner, str):
            bytes.fromhex(inner)
        elif kind in GROUPS and isinstance(inner, list):
            _check(inner, depth)
        elif kind == "dict" and isinstance(inner, list) and all(isinstance(pair, list) for pair in inner):
            for pair in inner:
                key, item = pair
                _check(key, depth - 1)
                _check(item, depth - 1)
        else:
            raise WireError(f"unknown type {kind!r}")
