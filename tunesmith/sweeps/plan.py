"""The plan of a sweep: what it varies and compares by, and the check that params.yaml may hold every value."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core import git, layout, params, params_text
from tunesmith.core.errors import LineageError, ParamsError
from tunesmith.core.params import OBJECTIVES, Objective
from tunesmith.project import checks, document
from tunesmith.project.document import Document
from tunesmith.sweeps import measures, space
from tunesmith.sweeps.measures import By
from tunesmith.sweeps.space import Dimension
from tunesmith.training.entries.common import Continued


@dataclass(frozen=True)
class Plan:
    """A sweep over the params of one training.

    entry: its name. commit: that of the project. present: the present values of the params that vary. params: the
    effective params of what all trials share: the models from the training to the base, and the data sets. text: that
    of params.yaml, in which each trial places its values.
    """

    objective: Objective
    entry: str
    space: tuple[Dimension, ...]
    by: By
    dataset: str
    commit: str
    present: dict[str, object]
    params: dict[str, object]
    text: str

    @property
    def place(self) -> str:
        """The training's place in params.yaml."""
        return f"{self.objective}.{self.entry}"

    @property
    def target(self) -> str:
        """The training's stage."""
        return f"train_{self.objective}@{self.entry}"

    @property
    def lower_is_better(self) -> bool:
        return self.by in measures.LOWER_IS_BETTER

    def placed(self, values: Mapping[str, object]) -> dict[str, object]:
        """Values of a trial by their place in params.yaml."""
        return {f"{self.place}.{param}": value for param, value in values.items()}


def make(root: Path, place: str, over: Sequence[str], by: str | None) -> Plan:
    """The plan of a sweep over the training at ``place``, such as sft.sft-lora. root: the project, the current folder.

    Raises ParamsError where params.yaml, the entry, a param, a value or the split does not allow it, and LineageError
    where the project is not in git or has uncommitted changes.
    """
    path = params.PATH
    raw = params.read_unchecked(path)
    project = document.load(path)
    checks.check(project, path)
    objective, entry = find(project, place)
    dimensions = space.parse_all(over)
    chosen = measures.choose(objective, by, [dimension.param for dimension in dimensions])
    training = project.entries(objective)[entry]
    _check_validation(project, f"{objective}.{entry}", training.dataset)
    plan = Plan(
        objective=objective,
        entry=entry,
        space=tuple(dimensions),
        by=chosen,
        dataset=training.dataset,
        commit=_commit(root),
        present={dimension.param: _at(training.model_dump(mode="json"), dimension.param) for dimension in dimensions},
        params={"models": _chain(project, entry), "data": document.effective(project)["data"]},
        text=params_text.read(path),
    )
    for dimension in dimensions:
        for value in dimension.examples:
            check(raw, plan.placed({dimension.param: value}), path)
    _check_layout(plan, path)
    return plan


def check(raw: dict[str, object], values: Mapping[str, object], path: Path) -> None:
    """Raise ParamsError where params.yaml, read as ``raw``, could not hold these values by place."""
    changed = copy.deepcopy(raw)
    for place, value in values.items():
        params_text.put(changed, place, value)
    try:
        checks.check(document.of(changed, path), path)
    except ParamsError as error:
        raise ParamsError(error.reason, fix="correct --over and run again; nothing was changed") from None


def _check_layout(plan: Plan, path: Path) -> None:
    values = {dimension.param: dimension.examples[0] for dimension in plan.space}
    try:
        params_text.with_values(plan.text, plan.placed(values), path)
    except ParamsError:
        raise ParamsError(
            f"{path}: {plan.place}: {', '.join(values)} cannot be changed without touching other values",
            fix="write them in the entry itself: shared by no anchor, and with no comment inside of {}",
        ) from None


def find(project: Document, place: str) -> tuple[Objective, str]:
    """The objective and the name of the training at a place. Raises ParamsError where there is none."""
    trainings = {f"{objective}.{name}": (objective, name) for name, (objective, _) in project.trainings.items()}
    named = {name: (objective, name) for name, (objective, _) in project.trainings.items()}
    if (found := trainings.get(place) or named.get(place)) is None:
        raise ParamsError(
            f"params.yaml: no training {place!r}{params.meant(place, [*trainings, *named])}",
            fix=f"name one of {', '.join(trainings)}" if trainings else f"add one, in {', '.join(OBJECTIVES)}",
        )
    return found


def _check_validation(project: Document, place: str, dataset: str) -> None:
    parts = project.parts(dataset)
    if not any(project.data[part].keeps_rows("validation") for part in parts):
        raise ParamsError(
            f"params.yaml: {place}.dataset: the validation split of data.{parts[0]} has no rows, and trials are "
            "compared on nothing else",
            fix=f"give it a share of the rows in data.{parts[0]}.splits",
        )


def check_rows(dataset: str) -> int:
    """The number of ready validation rows. Raises ParamsError where there are none."""
    path = layout.split(dataset, "validation")
    rows = path.read_bytes().count(b"\n")
    if not rows:
        raise ParamsError(
            f"{path}: no row came into the validation split, and trials are compared on nothing else",
            fix=f"give it a larger share in data.{dataset}.splits",
        )
    return rows


def _commit(root: Path) -> str:
    """The commit that experiments are based on. Raises LineageError where it does not hold the project as it is."""
    commit = git.head(root)
    if commit is None:
        raise LineageError(f"{root}: no commit to base experiments on", fix="`git add` and `git commit` the project")
    if not git.clean(root):
        raise LineageError(
            "files other than params.yaml and dvc.lock have changes that are not committed, so no trial would be "
            "reproducible",
            fix="commit them, or `git stash` them; `git status` lists them",
        )
    return commit


def _chain(project: Document, name: str) -> dict[str, object]:
    """The effective params of a training and of those that it starts from, by model."""
    chain: dict[str, object] = {}
    while name in project.trainings:
        _, training = project.trainings[name]
        chain[name] = document.effective(training)
        name = training.start if isinstance(training, Continued) else ""
    return chain


def _at(values: object, place: str) -> object:
    for name in place.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values
