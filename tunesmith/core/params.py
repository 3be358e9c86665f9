"""Typed sections of params.yaml.

A section is declared where it is used, as a `Section` with types and units; its values are all in params.yaml, where
DVC sees them, so a section has no defaults.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tunesmith.core.errors import ParamsError

PATH = Path("params.yaml")
SECTIONS = (
    "base_model",
    "demo",
    "data",
    "lora",
    "sft",
    "dpo",
    "reward",
    "rlhf",
    "grpo",
    "evaluate",
    "compare",
    "gate",
    "judge",
    "package",
    "registry",
    "signing",
    "serve",
    "runtime",
)
"""Every top-level name that params.yaml may hold."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


T = TypeVar("T")


def load(kind: type[T], section: str, *, path: Path = PATH) -> T:
    """The section at a dotted path, such as ``sft`` or ``data.demo``, as ``kind``.

    Raises ParamsError that names the param, what is wrong with it, and the name that was probably meant.
    """
    value: Any = read(path)
    for depth, key in enumerate(parts := section.split(".")):
        if not isinstance(value, dict) or key not in value:
            known = list(value) if isinstance(value, dict) else []
            raise ParamsError(
                f"{path}: no section {'.'.join(parts[: depth + 1])!r}{meant(key, known)}",
                fix=f"add it; the file that came with the project shows every section ({', '.join(SECTIONS)})",
            )
        value = value[key]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise _explain(error, kind, section, path) from None


def read(path: Path = PATH) -> dict[str, Any]:
    """All of params.yaml. Raises ParamsError where it is absent, not YAML, or has an unknown section."""
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found in {Path.cwd()}", fix="run from the project's root") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}", fix="correct that line") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: holds no sections", fix="restore it with `git checkout params.yaml`")
    for name in document:
        if name not in SECTIONS:
            raise ParamsError(
                f"{path}: unknown section {name!r}{meant(str(name), SECTIONS)}", fix="rename or remove it"
            )
    return document


def _explain(error: ValidationError, kind: type[Any], section: str, path: Path) -> ParamsError:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in (section, *problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: {place}: unknown param{meant(str(problem['loc'][-1]), _fields(kind))}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: {place}: missing; every param must have a value (`null` where it may be empty)")
        else:
            lines.append(f"{path}: {place}: {problem['msg']}, not {problem['input']!r}")
    return ParamsError("\n".join(lines), fix="correct params.yaml and run again; nothing was changed")


def _fields(kind: type[Any]) -> list[str]:
    """Names of the fields of a section, of the sections nested in it, and of the members of a union of sections."""
    schema = TypeAdapter(kind).json_schema()
    nested = [schema, *schema.get("$defs", {}).values()]
    return [name for part in nested for name in part.get("properties", {})]


def meant(name: str, known: list[str] | tuple[str, ...]) -> str:
    """ "; did you mean ...?" for the closest known name; empty where none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
