"""Checks of params.yaml that reach across sections: the names that one entry uses must be those of other entries."""

from collections.abc import Collection
from pathlib import Path

from tunesmith.core import layout, params
from tunesmith.core.errors import ParamsError
from tunesmith.data import row_kinds
from tunesmith.evaluation.gate_rules import NotExceed
from tunesmith.evaluation.suites import Answers
from tunesmith.project.document import Document
from tunesmith.registry.signing import Key, public_keys
from tunesmith.runtime import settings
from tunesmith.training.entries.common import Continued
from tunesmith.training.entries.rlhf import Rlhf

GENERATED = {layout.RAW / f"{name}.jsonl" for name in ("demo", "demo_pairs", "demo_prompts")}
"""Written by generate_demo, so they need not be there yet."""
BASE = layout.BASE.name


def check(document: Document, path: Path = params.PATH) -> None:
    """Raise ParamsError for the first thing that would stop the pipeline, with what was probably meant."""
    _check_names(document, path)
    _check_data(document, path)
    _check_trainings(document, path)
    _check_merged(document, path)
    _check_suites(document, path)
    _check_gate(document, path)
    settings.check(document.runtime, path)
    if isinstance(document.signing.root, Key):
        public_keys(document.signing.root)  # a colleague's key that is missing would show only at a promotion


def _check_names(document: Document, path: Path) -> None:
    """A model's name is that of its folder, so no two models share one."""
    places = {BASE: "the base model"}
    names = [(name, f"{objective}.{name}") for objective in params.OBJECTIVES for name in document.entries(objective)]
    for name, place in [*names, *((name, f"package.merged.{name}") for name in document.package.merged)]:
        if name in places:
            raise ParamsError(
                f"{path}: {place}: the name is taken by {places[name]}", fix="give each model a name of its own"
            )
        places[name] = place


def _check_data(document: Document, path: Path) -> None:
    for name, dataset in document.data.items():
        if not dataset.path.is_file() and dataset.path not in GENERATED:
            raise ParamsError(
                f"{path}: data.{name}.path: no file {dataset.path}", fix="put the file there, or correct the path"
            )
        held_out = dataset.held_out.path
        if not held_out.is_relative_to(layout.HELD_OUT) or ".." in held_out.parts:
            raise ParamsError(
                f"{path}: data.{name}.held_out.path: {held_out} is not in {layout.HELD_OUT}, where DVC sees it change",
                fix=f"move it into {layout.HELD_OUT}, and name it there",
            )
        if not held_out.exists():
            raise ParamsError(
                f"{path}: data.{name}.held_out.path: no file or folder {held_out}",
                fix=f"correct the path; {layout.HELD_OUT} itself, which may be empty, is the default",
            )


def _check_trainings(document: Document, path: Path) -> None:
    starts = [BASE, *(name for name, (objective, _) in document.trainings.items() if objective != "reward")]
    for name, (objective, entry) in document.trainings.items():
        place = f"{objective}.{name}"
        _check_one_of(entry.dataset, document.data, f"{path}: {place}.dataset", "data set")
        if isinstance(entry, Continued):
            _check_one_of(entry.start, starts, f"{path}: {place}.start", "model to start from")
            _check_ends(document, name, path)
        if isinstance(entry, Rlhf):
            _check_one_of(entry.reward, document.reward, f"{path}: {place}.reward", "reward model")
        dataset = document.data[entry.dataset]
        by_row = dataset.kind == "scored" and dataset.verifier is None  # each row names its own verifier
        if objective in row_kinds.LEARNS_FROM and not by_row:
            where = f"{path}: {place}.dataset: data.{entry.dataset}"
            row_kinds.check_trains(objective, dataset.kind, dataset.verifier, where)


def _check_ends(document: Document, name: str, path: Path) -> None:
    """The models that a training continues lead back to the base."""
    chain = [name]
    while chain[-1] != BASE:
        _, entry = document.trainings[chain[-1]]
        start = entry.start if isinstance(entry, Continued) else BASE
        if start in chain:
            raise ParamsError(
                f"{path}: {' starts from '.join([*chain, start])}: a circle", fix=f"let one of them start from {BASE}"
            )
        if start != BASE and start not in document.trainings:
            return  # its own check names it
        chain.append(start)


def _check_merged(document: Document, path: Path) -> None:
    adapters = {name: entry for name, (objective, entry) in document.trainings.items() if objective != "reward"}
    for name, merged in document.package.merged.items():
        place = f"{path}: package.merged.{name}.adapter"
        _check_one_of(merged.adapter, adapters, place, "adapter")
        if adapters[merged.adapter].weights == "full":
            raise ParamsError(
                f"{place}: all weights of {merged.adapter} are trained: there is nothing to merge",
                fix=f"remove package.merged.{name}; {merged.adapter} can be served as it is",
            )


def _check_suites(document: Document, path: Path) -> None:
    suites = document.evaluate.suites
    if document.models and not suites:
        raise ParamsError(
            f"{path}: evaluate.suites: missing; models would be trained and not compared",
            fix="add a suite, such as evaluate: {suites: {mine: {dataset: NAME, verifier: exact}}}",
        )
    for name, suite in suites.items():
        if suite.kind == "lm_eval":
            _check_task(name, suite.task, path)
        else:
            _check_one_of(suite.dataset, document.data, f"{path}: evaluate.suites.{name}.dataset", "data set")


def _check_task(name: str, task: str, path: Path) -> None:
    """A task that is a file lies where DVC sees it change."""
    if task.endswith((".yaml", ".yml")) and (not Path(task).is_relative_to(layout.TASKS) or ".." in task):
        raise ParamsError(
            f"{path}: evaluate.suites.{name}.task: {task} is not in {layout.TASKS}, where DVC sees it change",
            fix=f"move it, and what it includes, into {layout.TASKS}",
        )


def _check_gate(document: Document, path: Path) -> None:
    """Every rule of the gate is about a suite that can tell, and its baseline is compared."""
    suites = document.evaluate.suites
    if document.gate.against != "start":
        _check_one_of(document.gate.against, [BASE, *document.models], f"{path}: gate.against", "model")
    for rule in document.gate.rules:
        if isinstance(rule, NotExceed):
            continue
        _check_one_of(rule.suite, suites, f"{path}: gate.rules", "suite")
        if rule.metric != "score" and not isinstance(suites[rule.suite], Answers):
            raise ParamsError(
                f"{path}: gate.rules: the suite {rule.suite!r} has no {rule.metric}: nothing is written there",
                fix="ask it of a suite of kind answers",
            )


def _check_one_of(name: str, names: Collection[str], place: str, what: str) -> None:
    if name not in names:
        listed = list(names)
        raise ParamsError(
            f"{place}: no {what} {name!r}{params.meant(name, listed)}",
            fix=f"name one of {', '.join(listed)}" if listed else f"add the {what}",
        )
