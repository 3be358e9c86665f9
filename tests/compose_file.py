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
    """A variable that Compose would refuse to start without."""


def read(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables; raises MissingError for one that must be set."""

    def fill(match: re.Match[str]) -> str:
        name, operator, text = match.groups()
        if not variables.get(name) and operator == "?":
            raise MissingError(f"{name}: {text}")
        return variables.get(name) or (text if operator == "-" else "")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return VARIABLE.sub(fill, node) if isinstance(node, str) else node

    found: dict[str, Any] = filled(yaml.safe_load(PATH.read_text()))
    return found


def required() -> dict[str, str]:
    """The variables that must be set, with what the user is told."""
    return {name: text for name, operator, text in VARIABLE.findall(PATH.read_text()) if operator == "?"}
