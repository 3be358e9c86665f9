"""How an evaluation is divided: each share is a list of models with what they need, and their reports become one."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import orjson

from tunesmith.core import layout, lineage
from tunesmith.core.dvc_store import Tree
from tunesmith.core.params import load, resolved

HOSTED = layout.BASELINE.parent.name
"""The name under which a hosted model's answers are graded, by the share that has the base: a judge may be paid."""
ADAPTER = "adapter_config.json"
"""The file of an adapter by which an evaluation sees whether vLLM can serve all models, those of other shares too."""
SCORES = (layout.REPORTS / "metrics.json").as_posix()
"""The file to which every share adds its models."""


def models(root: Path) -> list[str]:
    """The models that are evaluated, the base first, as `stages.evaluate` names them."""
    return [layout.BASE.name, *load(list[str], "models", path=root / resolved("evaluate"))]


def divide(names: Sequence[str], root: Path, count: int) -> list[list[str]]:
    """Divide models into at most ``count`` shares of about the same size; those on the same full weights stay together
    as far as that allows, since a process loads these once.
    """
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(descent(name, root)[-1], []).append(name)
    ordered = [name for family in families.values() for name in family]
    count = min(count, len(ordered))
    starts = [round(number * len(ordered) / count) for number in range(count + 1)]
    return [ordered[start:end] for start, end in itertools.pairwise(starts)]


def descent(name: str, root: Path) -> list[str]:
    """A model, and those whose full weights it is loaded on, the last of which has full weights of its own."""
    path = root / layout.MODELS / name
    if name == layout.BASE.name or not (path / lineage.NAME).exists():
        return [name]
    under = lineage.read(path).get("on")
    return [name] if under is None or under["model"] == name else [name, *descent(under["model"], root)]


def inputs(names: Sequence[str], tree: Tree, root: Path) -> Tree:
    """The inputs of a share: all but other models and their reports; of other adapters, what they are.

    A hosted model's answers are for the share of the base.
    """
    has_base = layout.BASE.name in names
    needed = {layout.BASE.name, *(model for name in names for model in descent(name, root))}

    def belongs(path: Path) -> bool:
        if path.is_relative_to(layout.MODELS) and len(path.parts) > 2:
            return path.parts[1] in needed or path.parts[2:] == (ADAPTER,)
        if path.is_relative_to(layout.EVALUATION):
            return path.parts[2] in names or (path.parts[2] == HOSTED and has_base)
        return path.as_posix() != SCORES and (path != layout.BASELINE or has_base)

    return {name: digest for name, digest in tree.items() if belongs(Path(name))}


def merge(parts: Sequence[Tree]) -> Tree:
    """The reports of all shares. Where two have the same file, the first counts."""
    return {name: digest for part in reversed(parts) for name, digest in part.items() if name != SCORES}


def scores(parts: Sequence[bytes], names: Sequence[str]) -> bytes:
    """The scores as one process would have written them. parts: those of the shares. names: all models in order."""
    found: dict[str, float] = {}
    for part in parts:
        found |= orjson.loads(part)
    ordered = {name: found[name] for name in names if name in found}
    return orjson.dumps(ordered, option=orjson.OPT_INDENT_2) + b"\n"
