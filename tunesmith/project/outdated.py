"""Refusal of a params.yaml of version 0.1.0, where a training was a section without a name, with the edit to make."""

from pathlib import Path

import yaml

from tunesmith.core.errors import ParamsError

SINGLE = ("dpo", "reward", "rlhf", "grpo")
"""Sections that held the params of one training each."""
WEIGHTS = ("lora", "qlora", "full")


def check(document: dict[str, object], path: Path) -> None:
    """Raise ParamsError with the whole edit where ``document`` is a params.yaml of version 0.1.0."""
    edit = {**_trainings(document), **_package(document)}
    if not edit and "lora" not in document:
        return
    sections = ", ".join(name for name in ("lora", *edit) if name in document)
    block = yaml.safe_dump(edit, sort_keys=False, default_flow_style=None, width=110)
    replacement = f", and put in their place:\n\n{block}" if edit else "; entries have an adapter of their own, `lora`"
    raise ParamsError(
        f"{path}: {sections}: written for version 0.1.0; trainings are now named entries, each with its own adapter",
        fix=f"remove the sections {sections}{replacement}",
    )


def _trainings(document: dict[str, object]) -> dict[str, object]:
    """The named entries that replace the trainings' sections."""
    edit: dict[str, object] = {}
    sft = document.get("sft")
    if isinstance(sft, dict) and "dataset" in sft and not isinstance(sft["dataset"], dict):
        edit["sft"] = {f"sft-{weights}": _entry(sft, weights, document) for weights in WEIGHTS}
    for name in SINGLE:
        section = document.get(name)
        if isinstance(section, dict) and "dataset" in section and not isinstance(section["dataset"], dict):
            entry = _entry(section, str(section.get("weights", "lora")), document)
            edit[name] = {name: entry | ({"reward": "reward"} if name == "rlhf" else {})}
    return edit


def _entry(section: dict[str, object], weights: str, document: dict[str, object]) -> dict[str, object]:
    """The entry for one kind of weights: with its learning rate of the three, and the adapter that all shared."""
    rates = section.get("learning_rate")
    entry = {**section, "weights": weights}
    if isinstance(rates, dict):
        entry["learning_rate"] = rates.get(weights)
    lora = document.get("lora")
    if weights != "full" and isinstance(lora, dict):
        entry["lora"] = dict(lora)  # a copy, which YAML writes out
    return entry


def _package(document: dict[str, object]) -> dict[str, object]:
    """The named entries that replace a list of adapters to merge."""
    package = document.get("package")
    if not isinstance(package, dict) or not isinstance(package.get("merged"), list):
        return {}
    merged = {f"{name}-merged": {"adapter": name} for name in package["merged"]}
    return {"package": {**package, "merged": merged}}
