"""The whole of params.yaml, typed, with every default."""

import re
from pathlib import Path

from pydantic import BaseModel, Field, NonNegativeInt

from tunesmith.core import params
from tunesmith.core.errors import ParamsError, TunesmithError
from tunesmith.core.params import OBJECTIVES, EntryName, Objective, Section
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import row_kinds
from tunesmith.data.dataset import Dataset
from tunesmith.data.mixture import Mixture
from tunesmith.evaluation.candidates import Swept
from tunesmith.evaluation.differences import Compare
from tunesmith.evaluation.endpoint.settings import Baseline
from tunesmith.evaluation.gate_rules import Gate, Improve
from tunesmith.evaluation.suites import Evaluate
from tunesmith.models.base_sources import Source
from tunesmith.models.engines.settings import Engine
from tunesmith.project import outdated
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names
from tunesmith.runtime.settings import Runtime
from tunesmith.serving.settings import Serve
from tunesmith.training.entries.common import Entry
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.entries.kto import Kto
from tunesmith.training.entries.reward import Reward
from tunesmith.training.entries.rlhf import Rlhf
from tunesmith.training.entries.sft import Sft
from tunesmith.verifiers.judge.endpoint import Judge


class Merged(Section):
    """Full weights made of an adapter: a model of its own, evaluated and registered like any other."""

    adapter: EntryName
    """The model whose adapter is merged into the weights it is on. Required."""


class Package(Section):
    """Models as others get them: merged ones, and the license on model cards."""

    merged: dict[EntryName, Merged] = Field(default_factory=dict)
    """Merged models by name, such as {sft-lora-merged: {adapter: sft-lora}}."""
    license: str | None = None
    """License of the base, as the hub writes it, for the model cards; null where it is unknown."""


class Document(Section):
    """Every section of params.yaml."""

    base_model: Source = Source.model_validate({})
    demo: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Sizes and seed of the generated demo rows, for stages/generate_demo.py."""
    data: dict[EntryName, Dataset] = Field(default_factory=dict)
    mixtures: dict[EntryName, Mixture] = Field(default_factory=dict)
    """Data sets made of others, which trainings name like those of `data`."""
    sft: dict[EntryName, Sft] = Field(default_factory=dict)
    dpo: dict[EntryName, Dpo] = Field(default_factory=dict)
    kto: dict[EntryName, Kto] = Field(default_factory=dict)
    reward: dict[EntryName, Reward] = Field(default_factory=dict)
    rlhf: dict[EntryName, Rlhf] = Field(default_factory=dict)
    grpo: dict[EntryName, Grpo] = Field(default_factory=dict)
    sweeps: dict[EntryName, Swept] = Field(default_factory=dict)
    """The trainings whose params sweeps chose."""
    package: Package = Package()
    baseline: Baseline | None = None
    evaluate: Evaluate = Evaluate()
    compare: Compare = Compare()
    gate: Gate = Gate()
    judge: Judge | None = None
    registry: Names = Names()
    signing: Settings = Settings.model_validate({})
    runtime: Runtime = Runtime()
    engine: Engine = Engine()
    serve: Serve = Serve()

    def entries(self, objective: Objective) -> dict[str, Entry]:
        """The trainings of an objective, by name."""
        entries: dict[str, Entry] = getattr(self, objective)
        return entries

    @property
    def trainings(self) -> dict[str, tuple[Objective, Entry]]:
        """Every training, by the name of its model."""
        return {name: (objective, entry) for objective in OBJECTIVES for name, entry in self.entries(objective).items()}

    def parts(self, dataset: str) -> list[str]:
        """The data sets of `data` behind the one that a training names: itself, or those of a mixture."""
        is_mixture = dataset in self.mixtures and dataset not in self.data
        return self.mixtures[dataset].names if is_mixture else [dataset]

    @property
    def models(self) -> list[str]:
        """The models that are evaluated and registered: all but the base and the reward models."""
        trained = [name for name, (objective, _) in self.trainings.items() if objective != "reward"]
        return [*trained, *self.package.merged]


def load(path: Path = params.PATH) -> Document:
    """The whole of params.yaml with its defaults. Raises ParamsError for a wrong value, with the edit to make."""
    return of(params.read_unchecked(path), path)


def of(raw: dict[str, object], path: Path) -> Document:
    """The whole of params.yaml, read as ``raw`` from ``path``, with its defaults. Raises as `load` does."""
    outdated.check(raw, path)
    params.check_sections(raw, path)
    _check_pin(raw.get("base_model"), path)
    return with_default_rule(with_kinds(params.parse(Document, raw, "", path), raw))


def _check_pin(source: object, path: Path) -> None:
    """Raise ParamsError for a hub repository whose commit is missing or is a branch; name the commit that it is now."""
    if not isinstance(source, dict) or not isinstance(repo := source.get("repo"), str):
        return
    revision = str(source.get("commit") or "main")
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return
    from tunesmith.models.base import hub  # the only use of the network, and only where params.yaml is wrong

    try:
        fix = f"write commit: {hub.commit(repo, revision)}, which is what {revision} is now"
    except TunesmithError as error:
        fix = f"`tunesmith pin {repo}@{revision}` writes the commit; just now: {error.reason}"
    reason = f"{revision!r} is a branch or a tag, which can move" if "commit" in source else "missing"
    raise ParamsError(f"{path}: base_model.commit: {reason}", fix=fix)


def with_default_rule(document: Document) -> Document:
    """``document``, whose gate without rules asks that the score on the first suite improves."""
    suites = list(document.evaluate.suites)
    if document.gate.rules or not suites:
        return document
    rule = Improve(must="improve", suite=suites[0], metric="score", by=0.0)
    return document.model_copy(update={"gate": document.gate.model_copy(update={"rules": (rule,)})})


def with_kinds(document: Document, raw: dict[str, object]) -> Document:
    """``document``, in which each data set without a kind in params.yaml has the kind that its users need."""
    entries = raw.get("data")
    data = {}
    for name, dataset in document.data.items():
        entry = entries.get(name) if isinstance(entries, dict) else None
        kinds = users_of(document, name)
        if isinstance(entry, dict) and "kind" not in entry and kinds:
            if len(set(kinds.values())) > 1:
                needs = ", ".join(f"{kind} for {user}" for user, kind in kinds.items())
                raise ParamsError(
                    f"params.yaml: data.{name}: its rows would have to be {needs}",
                    fix=f"make a data set for each, or state data.{name}.kind",
                )
            dataset = dataset.model_copy(update={"kind": next(iter(kinds.values()))})
        data[name] = dataset
    return document.model_copy(update={"data": data})


def users_of(document: Document, dataset: str) -> dict[str, RowKind]:
    """The kind of row that each training and suite on a data set needs, by the user's place in params.yaml.

    RLHF takes the prompts of rows of any kind.
    """
    kinds: dict[str, RowKind] = {
        f"{objective}.{name}": row_kinds.LEARNS_FROM[objective][1]
        for name, (objective, entry) in document.trainings.items()
        if dataset in document.parts(entry.dataset) and objective in row_kinds.LEARNS_FROM
    }
    for name, suite in document.evaluate.suites.items():
        if getattr(suite, "dataset", None) == dataset and suite.kind in ("preferences", "perplexity"):
            kinds[f"evaluate.suites.{name}"] = "preferences" if suite.kind == "preferences" else "answers"
    return kinds


def effective(section: BaseModel) -> dict[str, object]:
    """A section with its defaults, as it would stand in params.yaml."""
    values: dict[str, object] = section.model_dump(mode="json")
    return values
