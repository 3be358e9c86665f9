"""Checks of params.yaml across its sections: names that an entry uses must be names of other entries."""

import os
from collections.abc import Collection
from pathlib import Path

from tunesmith.core import layout, params
from tunesmith.core.errors import DataError, ParamsError
from tunesmith.data import readers, row_kinds
from tunesmith.data.dataset import Dataset
from tunesmith.evaluation.endpoint import settings as endpoint
from tunesmith.evaluation.gate_rules import NotExceed, NotGrow
from tunesmith.evaluation.suites import Answers, LmEvalTask
from tunesmith.project.document import Document
from tunesmith.registry.signing import Key, public_keys
from tunesmith.runtime import settings
from tunesmith.training.entries.common import Continued
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.entries.rlhf import Rlhf

GENERATED = {layout.RAW / f"{name}.jsonl" for name in ("demo", "demo_open", "demo_pairs", "demo_marks", "demo_prompts")}
"""Files that `generate_demo` writes, so that they may be absent."""
BASE = layout.BASE.name


def check(document: Document, path: Path = params.PATH) -> None:
    """Raise ParamsError for the first param that would stop the pipeline, with the name that was probably meant."""
    _check_model_names(document, path)
    _check_data(document, path)
    _check_mixtures(document, path)
    _check_trainings(document, path)
    for name in document.sweeps:
        _check_one_of(name, document.trainings, f"{path}: sweeps", "training")
    _check_merged(document, path)
    _check_suites(document, path)
    _check_gate(document, path)
    settings.check(document.runtime, path)
    if isinstance(document.signing.root, Key):
        public_keys(document.signing.root)  # without this, a colleague's missing key would show only at a promotion


def _check_model_names(document: Document, path: Path) -> None:
    """Raise ParamsError where two models share a name, which is also that of their folder."""
    places = {BASE: "the base model"} | ({endpoint.NAME: "the hosted model"} if document.baseline else {})
    names = [(name, f"{objective}.{name}") for objective in params.OBJECTIVES for name in document.entries(objective)]
    for name, place in [*names, *((name, f"package.merged.{name}") for name in document.package.merged)]:
        if name in places:
            raise ParamsError(
                f"{path}: {place}: the name is taken by {places[name]}", fix="give each model a name of its own"
            )
        places[name] = place


def _check_data(document: Document, path: Path) -> None:
    for name, dataset in document.data.items():
        if layout.holds_outputs(dataset.path):
            raise ParamsError(
                f"{path}: data.{name}.path: stages write into {dataset.path}, and DVC lets none depend on it",
                fix=f"move the rows, with their images, into a folder of their own, such as {layout.RAW}/NAME",
            )
        may_be_absent = os.environ.get(layout.PARTIAL_VARIABLE) or any(
            file.is_relative_to(dataset.path) for file in GENERATED
        )
        if not may_be_absent:
            _check_files(dataset, f"{path}: data.{name}")
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


def _check_mixtures(document: Document, path: Path) -> None:
    for name, mixture in document.mixtures.items():
        if name in document.data:
            raise ParamsError(
                f"{path}: mixtures.{name}: the name is taken by data.{name}", fix="give the mixture a name of its own"
            )
        for part in mixture.names:
            _check_one_of(part, document.data, f"{path}: mixtures.{name}.datasets", "data set")


def _check_files(dataset: Dataset, place: str) -> None:
    """Raise ParamsError where a data set has no file, or names files by a pattern that DVC would take for a path."""
    folder, pattern = readers.split_pattern(str(dataset.path))
    if pattern is not None:
        raise ParamsError(
            f"{place}.path: {dataset.path} is a pattern, and DVC watches a file or a folder",
            fix=f"write path: {folder} and files: {pattern!r}",
        )
    try:
        readers.find(dataset.path, dataset.files)
    except DataError as error:
        raise ParamsError(f"{place}.path: {error.reason}", fix=error.fix) from None


def _check_trainings(document: Document, path: Path) -> None:
    starts = [BASE, *(name for name, (objective, _) in document.trainings.items() if objective != "reward")]
    for name, (objective, entry) in document.trainings.items():
        place = f"{objective}.{name}"
        names = [*document.data, *document.mixtures]
        _check_one_of(entry.dataset, names, f"{path}: {place}.dataset", "data set")
        if isinstance(entry, Continued):
            _check_one_of(entry.start, starts, f"{path}: {place}.start", "model to start from")
            _check_reaches_base(document, name, path)
        if isinstance(entry, Grpo) and entry.refusal_by == "judge":
            _check_judge(document, f"{path}: {place}.refusal_by")
        if isinstance(entry, Rlhf):
            _check_one_of(entry.reward, document.reward, f"{path}: {place}.reward", "reward model")
        for part in document.parts(entry.dataset):
            dataset = document.data[part]
            rows_name_verifiers = dataset.kind == "scored" and dataset.verifier is None
            if objective in row_kinds.LEARNS_FROM and not rows_name_verifiers:
                where = f"{path}: {place}.dataset: data.{part}"
                row_kinds.check_trains(objective, dataset.kind or "answers", dataset.verifier, where)
            _check_split(document, part, "train", f"{path}: {place}.dataset")
        if entry.patience is not None:  # without measurements nothing would stop the training
            parts = document.parts(entry.dataset)
            measured = [part for part in parts if document.data[part].keeps_rows("validation")]
            _check_split(document, (measured or parts)[0], "validation", f"{path}: {place}.patience")


def _check_judge(document: Document, place: str) -> None:
    if document.judge is None:
        raise ParamsError(
            f"{place}: params.yaml names no judge", fix="add one: judge: {base_url: https://..., model: NAME}"
        )


def _check_split(document: Document, name: str, split: str, place: str) -> None:
    if not document.data[name].keeps_rows(split):
        raise ParamsError(
            f"{place}: the {split} split of data.{name} has no rows",
            fix=f"give it a share of the rows in data.{name}.splits, and in data.{name}.limit null or more than 0",
        )


def _check_reaches_base(document: Document, name: str, path: Path) -> None:
    """Raise ParamsError where the models that a training starts from form a circle instead of ending at the base."""
    chain = [name]
    while chain[-1] != BASE:
        _, entry = document.trainings[chain[-1]]
        start = entry.start if isinstance(entry, Continued) else BASE
        if start in chain:
            raise ParamsError(
                f"{path}: {' starts from '.join([*chain, start])}: a circle", fix=f"let one of them start from {BASE}"
            )
        if start != BASE and start not in document.trainings:
            return  # the check of that entry names it
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
            _check_task(name, suite, path)
        else:
            place = f"{path}: evaluate.suites.{name}.dataset"
            _check_one_of(suite.dataset, document.data, place, "data set")
            _check_split(document, suite.dataset, "test", place)
            if document.data[suite.dataset].kind == "marks":
                raise ParamsError(
                    f"{place}: answers of data.{suite.dataset} are marked bad, and cannot judge a model",
                    fix="name a data set of answers, pairs or scored prompts",
                )
            if isinstance(suite, Answers) and suite.refusal_by == "judge":
                _check_judge(document, f"{path}: evaluate.suites.{name}.refusal_by")


def _check_task(name: str, suite: LmEvalTask, path: Path) -> None:
    """Raise ParamsError for a task file that is missing, or outside of the folder that `evaluate` depends on."""
    places = {"include_path": suite.include_path, "task": Path(suite.task) if suite.is_file else None}
    for param, place in places.items():
        where = f"{path}: evaluate.suites.{name}.{param}"
        if place is not None and (not place.is_relative_to(layout.TASKS) or ".." in place.parts):
            raise ParamsError(
                f"{where}: {place} is not in {layout.TASKS}, where DVC sees it change",
                fix=f"move it, and what it includes, into {layout.TASKS}",
            )
        if place is not None and not place.exists():
            raise ParamsError(f"{where}: no file or folder {place}", fix="put it there, or correct the path")


def _check_gate(document: Document, path: Path) -> None:
    """Raise ParamsError for a rule on a suite that does not measure its metric, or an unknown baseline."""
    suites = document.evaluate.suites
    if document.gate.against != "start":
        hosted = [endpoint.NAME] if document.baseline else []
        _check_one_of(document.gate.against, [BASE, *hosted, *document.models], f"{path}: gate.against", "model")
    for rule in document.gate.rules:
        if isinstance(rule, NotExceed):
            continue
        _check_one_of(rule.suite, suites, f"{path}: gate.rules", "suite")
        if document.baseline and document.gate.against == endpoint.NAME and suites[rule.suite].kind != "answers":
            kind = suites[rule.suite].kind
            raise ParamsError(
                f"{path}: gate.rules: a hosted model answers no suite of kind {kind}, as {rule.suite!r} is",
                fix="name a suite of kind answers, or set gate.against to base or start",
            )
        if rule.metric != "score" and not isinstance(suites[rule.suite], Answers):
            raise ParamsError(
                f"{path}: gate.rules: the suite {rule.suite!r} has no {rule.metric}, since no answers are generated",
                fix="name a suite of kind answers",
            )
        if suites[rule.suite].kind != "lm_eval" and not isinstance(rule, NotGrow) and rule.margin >= 1:
            raise ParamsError(
                f"{path}: gate.rules: {rule.margin:g} is no margin of the share {rule.metric} on {rule.suite!r}",
                fix="name a share below 1, such as 0.05 for 5 points",
            )


def _check_one_of(name: str, names: Collection[str], place: str, noun: str) -> None:
    if name not in names:
        choices = list(names)
        raise ParamsError(
            f"{place}: no {noun} {name!r}{params.meant(name, choices)}",
            fix=f"name one of {', '.join(choices)}" if choices else f"add the {noun}",
        )
