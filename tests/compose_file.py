"""compose.yaml as Compose reads it: variables filled in, anchors merged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
PATH = ROOT / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


class MissingError(Exception):
    """A variable is unset without which Compose would refuse to start."""


def read(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with these variables filled in. Raises MissingError for a required one that is unset."""

    def fill(match: re.Match[str]) -> str:
        name, operator, text = match.groups()
        if not variables.get(name) and operator == "?":
            raise MissingError(f"{name}: {text}")
        return variables.get(name) or (text if operator == "-" else "")

    def fill_in(node: object) -> Any:
        if isinstance(node, dict):
            return {key: fill_in(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill_in(value) for value in node]
        return VARIABLE.sub(fill, node) if isinstance(node, str) else node

    document: dict[str, Any] = fill_in(yaml.safe_load(PATH.read_text()))
    return document


def required() -> dict[str, str]:
    """The variables that must be set, with the message for an unset one."""
    return {name: text for name, operator, text in VARIABLE.findall(PATH.read_text()) if operator == "?"}
