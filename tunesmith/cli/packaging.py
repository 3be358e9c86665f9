"""How models are packaged: the section `package`, and whether dvc.yaml goes along with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Section

ADAPTERS = ("sft-lora", "sft-qlora", "dpo", "rlhf", "grpo")
"""Models that may be adapters, and then be merged."""
FULL = "sft-full"
"""The full weights, other than the base's, that an adapter may be on."""
LINES: dict[str, dict[str, tuple[str, ...]]] = {
    "evaluate": {
        "deps": ("models/{}",),
        "outs": ("reports/{}/samples.jsonl",),
        "metrics": ("reports/{}/metrics.json",),
    },
    "compare": {
        "deps": (
            "reports/{}/metrics.json",
            "reports/{}/samples.jsonl",
            "models/{}/training.jsonl",
            "models/{}/manifest.json",
        ),
    },
}
"""What dvc.yaml says of every model, by stage and key; besides, their `cmd` names it, and `register.foreach`."""


class Package(Section):
    merged: list[str]
    """Adapters that are also made full weights, each a model of its own: models/<name>-merged."""
    license: str | None
    """Of the base, as the hub writes it, for the model cards; null where it is not known."""


def check(path: Path) -> None:
    """Raise ParamsError where what is to be merged cannot be, or dvc.yaml beside ``path`` has not the lines for it."""
    package = params.load(Package, "package", path=path)
    for name in package.merged:
        _check_is_adapter(name, path)
    pipeline = path.parent / "dvc.yaml"
    if not pipeline.exists():
        return
    stages = yaml.safe_load(pipeline.read_text())["stages"]
    merged = [f"{name}-merged" for name in package.merged]
    for name, made in zip(package.merged, merged, strict=True):
        missing = [*_on_full(stages, name, path), *_missing(stages, made)]
        if missing:
            raise ParamsError(
                f"{pipeline}: models/{made} would be made, but not evaluated, compared and registered as it should",
                fix="\n    ".join(["add", *missing]),
            )
    for known in stages["evaluate"]["cmd"].split():
        if known.endswith("-merged") and known not in merged:
            raise ParamsError(
                f"{pipeline}: the stage evaluate names {known}, which nothing makes",
                fix=f"add {known.removesuffix('-merged')} to package.merged in {path.name}, or take {known} out of "
                "evaluate, compare and register",
            )


def _check_is_adapter(name: str, path: Path) -> None:
    if name not in (*ADAPTERS, FULL):
        raise ParamsError(
            f"{path}: package.merged: no adapter {name!r}{params.meant(name, ADAPTERS)}",
            fix=f"name some of {', '.join(ADAPTERS)}",
        )
    if name == FULL or (not name.startswith("sft-") and params.load(str, f"{name}.weights", path=path) == "full"):
        raise ParamsError(
            f"{path}: package.merged: all weights of {name} are trained: there is nothing to merge",
            fix=f"take {name} out of it; it can be served as it is",
        )


def _on_full(stages: dict[str, Any], name: str, path: Path) -> Iterator[str]:
    """The line by which the stage merge has the weights under an adapter, where those are not the base's."""
    if name.startswith("sft-") or params.load(str, f"{name}.start", path=path) != FULL:
        return
    if f"models/{FULL}" not in stages["merge"]["do"]["deps"]:
        yield f"to merge.do.deps: - models/{FULL}"


def _missing(stages: dict[str, Any], model: str) -> Iterator[str]:
    """What dvc.yaml lacks for a model, each as "to <where>: <what>"."""
    for stage, keys in LINES.items():
        if model not in stages[stage]["cmd"].split():
            yield f"to {stage}.cmd: {model}"
        for key, templates in keys.items():
            present = {entry if isinstance(entry, str) else next(iter(entry)) for entry in stages[stage][key]}
            for line in (template.format(model) for template in templates):
                if line not in present:
                    yield f"to {stage}.{key}: - {line}" + ("" if key == "deps" else ": {persist: true}")
    if model not in stages["register"]["foreach"]:
        yield f"to register.foreach: {model}"
