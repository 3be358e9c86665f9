"""Typed sections of params.yaml, and of the effective params that the stage `resolve_params` derives from it.

A section is declared where it is used, as a `Section` with types, units and a default for every value that can have
one. params.yaml holds the values that a project chose. `resolve_params` adds the defaults, checks the document, and
writes the values that each stage reads to build/params; a stage is stale when its file there changes.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError

from tunesmith.core.errors import ParamsError

PATH = Path("params.yaml")
RESOLVED = Path("build/params")
"""The folder that `resolve_params` writes: <stage>.json, or <stage>/<entry>.json for a stage with entries."""
Objective: TypeAlias = Literal["sft", "dpo", "kto", "reward", "rlhf", "grpo"]
"""The objective of a training, which is the section of params.yaml that its entry is in."""
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
WeightsKind: TypeAlias = Literal["lora", "qlora", "full"]
"""The weights that a training moves: an adapter, an adapter on a base quantized to 4 bits, or all of them."""
Sharding: TypeAlias = Literal["auto", "none", "full"]
"""Whether several processes divide the weights among them (full), or each has all of them (none)."""
SECTIONS = (
    "base_model",
    "demo",
    "data",
    "mixtures",
    *OBJECTIVES,
    "sweeps",
    "package",
    "baseline",
    "evaluate",
    "compare",
    "gate",
    "judge",
    "registry",
    "signing",
    "runtime",
    "engine",
    "serve",
)
"""Every top-level name that params.yaml may hold."""


class Section(BaseModel):
    """A section of params.yaml, immutable; an unknown param is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def _check_entry_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(f"{name!r} cannot name an entry: a name is a letter, then letters, digits, - and _")
    return name


EntryName = Annotated[str, AfterValidator(_check_entry_name)]
"""The name of a data set or a model, also in its stage, `train_sft@<name>`, and of its folder."""


def _check_template_variable(name: str) -> str:
    if not name.isidentifier() or name in TEMPLATE_INPUTS or name.endswith("_token"):
        raise ValueError(f"{name!r} is no setting of a chat template; name a variable of it, such as enable_thinking")
    return name


TEMPLATE_INPUTS = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template")
"""Variables of a chat template that every rendering sets itself."""
TemplateKwargs = dict[Annotated[str, AfterValidator(_check_template_variable)], bool | int | FiniteFloat | str]
"""Values for variables of a chat template, such as {enable_thinking: false}."""

RENAMED = {"serve.context_length": "serve.max_model_len", "serve.python": "engine.python"}
"""Params of earlier releases, each with the name that it has now."""

T = TypeVar("T")


def load(kind: type[T], section: str, *, path: Path = PATH) -> T:
    """The section at a dotted path, such as ``gate`` or ``data.demo``, as ``kind``. An absent section has its defaults.

    Raises ParamsError that names the param, what is wrong with it, and the name that was probably meant.
    """
    value: object = read(path)
    for depth, key in enumerate(parts := section.split(".")):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif depth == 0:
            value = {}
        else:
            names = list(value) if isinstance(value, dict) else []
            raise ParamsError(
                f"{path}: no entry {'.'.join(parts[: depth + 1])!r}{meant(key, names)}",
                fix=f"name one of {', '.join(names)}" if names else "add it",
            )
    return parse(kind, value, section, path)


def resolved(stage: str, entry: str | None = None) -> Path:
    """The file of effective params that a stage reads: `load(..., path=resolved(stage, entry))`."""
    return RESOLVED / f"{stage}.json" if entry is None else RESOLVED / stage / f"{entry}.json"


def read(path: Path = PATH) -> dict[str, object]:
    """The whole of params.yaml, or of a stage's effective params.

    Raises ParamsError where the file is absent, is not YAML, or has an unknown section.
    """
    document = read_unchecked(path)
    if path.name == PATH.name:
        check_sections(document, path)
    return document


def read_unchecked(path: Path) -> dict[str, object]:
    """The whole of a file of params, its sections unchecked. Raises ParamsError where it is absent or is not YAML."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        fix = "`dvc repro resolve_params` writes it" if RESOLVED in path.parents else "run from the project's root"
        raise ParamsError(f"{path}: not found in {Path.cwd()}", fix=fix) from None
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ParamsError(f"{path}: not YAML: {error}", fix="correct that line") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: holds no sections", fix="restore it with `git checkout params.yaml`")
    return document


def parse(kind: type[T], value: object, section: str, path: Path = PATH) -> T:
    """``value`` as ``kind``. Raises ParamsError that names each wrong param below ``section``."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise _explain(error, kind, section, path) from None


def meant(name: str, names: Sequence[str]) -> str:
    """The end of an error, "; did you mean ...?", with the closest of ``names``; empty where no name is close."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_sections(document: dict[str, object], path: Path) -> None:
    """Raise ParamsError for a section that params.yaml does not have."""
    for name in document:
        if name not in SECTIONS:
            fix = "`tunesmith check` prints the edit that it needs" if name == "lora" else "rename or remove it"
            raise ParamsError(f"{path}: unknown section {name!r}{meant(str(name), SECTIONS)}", fix=fix)


def _explain(error: ValidationError, kind: type[T], section: str, path: Path) -> ParamsError:
    lines = []
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":
            continue  # a default that depends on another param, whose own error is in the list
        place = ".".join(str(part) for part in (section, *problem["loc"]) if part not in ("", "[key]"))
        if problem["type"] == "extra_forbidden" and place in RENAMED:
            lines.append(f"{path}: {place}: now {RENAMED[place]}; write {problem['input']!r} there")
        elif problem["type"] == "extra_forbidden":
            *section_of, name = problem["loc"]
            lines.append(f"{path}: {place}: unknown param{meant(str(name), _fields(kind, section_of))}")
        elif problem["type"] == "model_type":
            names = ", ".join(_fields(kind, problem["loc"]))
            lines.append(f"{path}: {place}: takes params of its own ({names}), not {problem['input']!r}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: {place}: missing; it has no default")
        else:
            lines.append(f"{path}: {place}: {problem['msg'].removeprefix('Value error, ')}, not {problem['input']!r}")
    return ParamsError("\n".join(lines), fix="correct params.yaml and run again; nothing was changed")


def _fields(kind: type[T], place: Sequence[str | int]) -> list[str]:
    """The names of the params of the section at a place within ``kind``, and of all members of a union of sections."""
    schema = TypeAdapter(kind).json_schema()
    sections = _sections(schema, schema)
    for key in place:
        inner = [part for section in sections if (part := _part(section, key)) is not None]
        sections = [found for part in inner for found in _sections(part, schema)] or sections  # a key may be a union's
    return [name for section in sections for name in section.get("properties", {})]


def _sections(part: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The sections that a part of a JSON schema stands for, of a union several."""
    if "$ref" in part:
        return _sections(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    members = part.get("anyOf") or part.get("oneOf")
    return [found for member in members for found in _sections(member, schema)] if members else [part]


def _part(section: dict[str, Any], key: str | int) -> dict[str, Any] | None:
    """The JSON schema of what a section has at ``key``; None where it has nothing there."""
    found = section.get("properties", {}).get(key, section.get("additionalProperties", section.get("items")))
    return found if isinstance(found, dict) else None
