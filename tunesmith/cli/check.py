"""Look over params.yaml before anything runs.

DVC fills names from params.yaml into dvc.yaml before a stage can speak; a misspelt one ends in DVC's own words. What
it fills in is checked here, with what was probably meant. All else is checked by the stage that reads it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from tunesmith.cli import packaging
from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.data import row_kinds
from tunesmith.data.dataset import Dataset, check_name
from tunesmith.evaluation.gate_rules import Gate, NotExceed
from tunesmith.evaluation.suites import Answers, Evaluate, Task
from tunesmith.registry.signing import Key, Settings, public_keys
from tunesmith.runtime import settings
from tunesmith.serving.settings import Serve

GENERATED = [Path("data/raw") / f"{name}.jsonl" for name in ("demo", "demo_pairs", "demo_prompts")]
"""Written by generate_demo, so they need not be there yet."""
OBJECTIVES = ("sft", "dpo", "reward", "rlhf", "grpo")
STARTS = ("base", "sft-lora", "sft-qlora", "sft-full")
"""Models that a training may start from."""


def check(path: Path = params.PATH) -> list[str]:
    """The names of the data sets. Raises ParamsError for the first thing that would stop the pipeline from starting."""
    for section in params.SECTIONS:
        if section != "judge":  # which may be null
            params.load(dict, section, path=path)
    names = list(params.load(dict, "data", path=path))
    datasets: dict[str, Dataset] = {}
    for name in names:
        check_name(str(name))
        dataset = datasets[name] = params.load(Dataset, f"data.{name}", path=path)
        if not dataset.path.is_file() and dataset.path not in GENERATED:
            raise ParamsError(
                f"{path}: data.{name}.path: no file {dataset.path}", fix="put the file there, or correct the path"
            )
        if not dataset.held_out.path.exists():
            raise ParamsError(
                f"{path}: data.{name}.held_out.path: no file or folder {dataset.held_out.path}",
                fix="correct the path; data/held_out, an empty folder, is what the project came with",
            )
    for section in OBJECTIVES:
        _check_one_of(f"{section}.dataset", names, "data set", path)
    _check_suites(names, path)
    _check_gate(path)
    for section in OBJECTIVES[1:]:
        _check_one_of(f"{section}.start", STARTS, "model to start from", path)
    packaging.check(path)
    settings.read(path)
    params.load(Serve, "serve", path=path)
    signing = params.load(Settings, "signing", path=path).root
    if isinstance(signing, Key):
        public_keys(signing)  # a colleague's key that is not there would be missed only at a promotion
    for section in OBJECTIVES:
        name = params.load(str, f"{section}.dataset", path=path)
        dataset = datasets[name]
        by_row = dataset.kind == "scored" and dataset.verifier is None  # each row names its own verifier
        if section in row_kinds.OBJECTIVES and not by_row:
            row_kinds.check_trains(section, dataset.kind, dataset.verifier, f"{path}: {section}.dataset: data.{name}")
    return names


def _check_suites(names: list[str], path: Path) -> None:
    """Every suite is of a known data set, which is a dependency of the stage that reads it."""
    settings = params.load(Evaluate, "evaluate", path=path)
    deps = _dependencies(path.parent / "dvc.yaml")
    for name, suite in settings.suites.items():
        place = f"evaluate.suites.{name}"
        if isinstance(suite, Task):
            needed = suite.task if Path(suite.task).suffix in (".yaml", ".yml") else None
        else:
            _check_one_of(f"{place}.dataset", names, "data set", path)
            needed = f"data/ready/${{{place}.dataset}}/test.jsonl"
        if deps and needed is not None and needed not in deps:
            raise ParamsError(
                f"dvc.yaml: the stage evaluate does not depend on what the suite {name!r} reads, and would not run "
                "again when that changes",
                fix=f"add `- {needed}` to its deps",
            )
    for wanted in re.findall(r"\$\{evaluate\.suites\.([^.}]+)", "\n".join(deps)):
        if wanted not in settings.suites:
            raise ParamsError(
                f"dvc.yaml: the stage evaluate depends on the suite {wanted!r}, which {path} has not",
                fix="take the line out of its deps, or add the suite",
            )


def _dependencies(pipeline: Path) -> list[str]:
    """Of the stage evaluate, as they are written."""
    if not pipeline.exists():
        return []
    found: list[str] = yaml.safe_load(pipeline.read_text())["stages"]["evaluate"]["deps"]
    return found


def _check_gate(path: Path) -> None:
    """Every rule is about a suite that can tell."""
    suites = params.load(Evaluate, "evaluate", path=path).suites
    for rule in params.load(Gate, "gate", path=path).rules:
        if isinstance(rule, NotExceed):
            continue
        if rule.suite not in suites:
            raise ParamsError(
                f"{path}: gate.rules: no suite {rule.suite!r}{params.meant(rule.suite, list(suites))}",
                fix=f"name one of {', '.join(suites)}",
            )
        if rule.metric != "score" and not isinstance(suites[rule.suite], Answers):
            raise ParamsError(
                f"{path}: gate.rules: the suite {rule.suite!r} has no {rule.metric}: nothing is written there",
                fix="ask it of a suite of kind answers",
            )


def _check_one_of(param: str, known: Sequence[str], what: str, path: Path) -> None:
    wanted = params.load(str, param, path=path)
    if wanted not in known:
        raise ParamsError(
            f"{path}: {param}: no {what} {wanted!r}{params.meant(wanted, list(known))}",
            fix=f"name one of {', '.join(known)}",
        )
