"""The specification of one training, as its journal and its lineage record it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peft import LoraConfig, PeftModel

from tunesmith.core import journal, lineage, manifest, processes
from tunesmith.core.journal import Trained
from tunesmith.core.manifest import Manifest
from tunesmith.core.params import Objective
from tunesmith.core.ready_rows import Row
from tunesmith.models import settings
from tunesmith.models.device import Profile
from tunesmith.models.engines.record import EngineRecord
from tunesmith.models.loading import OpenModel
from tunesmith.planning.activations import KNOWN_LINEARS
from tunesmith.training.entries.common import Entry

TITLES: dict[Objective, str] = {
    "sft": "SFT",
    "dpo": "DPO",
    "kto": "KTO",
    "reward": "reward model",
    "rlhf": "RLHF",
    "grpo": "GRPO",
}
"""The name of each objective in the name of a method, such as "SFT with LoRA"."""
SCORING_HEADS = {"classifier", "score"}
"""The modules that peft trains in full, beside the adapter, in any model that scores."""


def trained(rows: list[Row], tokens: Sequence[int] | None = None) -> dict[str, Trained]:
    """What each data set of a mixture gives. tokens: those that a row trains on, over all epochs, where it is known."""
    datasets: dict[str, Trained] = {}
    for position, row in enumerate(rows):
        if "dataset" in row:
            given = datasets.setdefault(row["dataset"], {"rows": 0, "tokens": None if tokens is None else 0})
            given["rows"] += 1
            if tokens is not None:
                given["tokens"] = (given["tokens"] or 0) + tokens[position]
    return datasets


@dataclass(frozen=True, kw_only=True)
class LargestStep:
    """The part of `journal.LargestStep`, which documents the fields, that an objective knows."""

    batch: int
    length: int
    completion: int = 0
    labelled: int = 0
    rollouts: int = 0
    group: int = 1
    reference: bool = False
    shapes: int = 0
    accumulation: int = 1
    image_tokens: int = 0


@dataclass(frozen=True)
class TrainingSpec:
    """One training.

    out: the folder of the model that it makes. entry: its params. start: the folder of the model that it starts from.
    rows: the number of rows that train. inputs: files of ready rows. upstream: folders of other trained models in use.
    datasets: what each data set of a mixture gives; empty where the rows are of one. examples: the number of examples
    to train on over all epochs; 0 where the objective draws its own. also: other params that shape the training.
    engine: the vLLM that writes the completions; None where transformers does, or where there are none.
    """

    out: Path
    objective: Objective
    entry: Entry
    start: Path
    rows: int
    inputs: list[Path]
    largest_step: LargestStep
    upstream: tuple[Path, ...] = ()
    datasets: dict[str, Trained] = field(default_factory=dict)
    examples: int = 0
    also: dict[str, object] | None = None
    engine: EngineRecord | None = None

    @property
    def method(self) -> str:
        """The objective on the kind of weights, in words."""
        return f"{TITLES[self.objective]} {settings.NAMES[self.entry.weights]}"

    @property
    def params(self) -> dict[str, dict[str, object]]:
        """The effective params that shaped the training, as params.yaml nests them."""
        return {self.objective: {self.out.name: self.entry.model_dump(mode="json")}}


def about(spec: TrainingSpec, policy: OpenModel, profile: Profile) -> dict[str, object]:
    """The fields of the journal's `start` event that describe the training."""
    return {
        "model": spec.out.name,
        "method": spec.method,
        "objective": spec.objective,
        "weights": spec.entry.weights,
        "start": spec.start.name,
        "params": spec.params,
        "dataset": spec.entry.dataset,
        "datasets": spec.datasets,
        "rows": spec.rows,
        "device": profile.name,
        "largest_step": step_event(spec.entry, adapter_of(policy), spec.largest_step, profile),
        **({} if spec.engine is None else {"engine": spec.engine}),
    }


def adapter_of(policy: OpenModel) -> LoraConfig | None:
    """The adapter that trains: a new one, or that of the start."""
    return policy.model.peft_config["default"] if isinstance(policy.model, PeftModel) else None


def step_event(entry: Entry, adapter: LoraConfig | None, step: LargestStep, profile: Profile) -> journal.LargestStep:
    """The largest step of a training, as its journal records it. adapter: the one that trains."""
    named = adapter.target_modules if adapter else None
    # As peft writes all-linear: by paths, or by all names.
    every = isinstance(named, str) or any("." in name for name in named or []) or {*(named or [])} >= KNOWN_LINEARS
    whole = {*(adapter.modules_to_save or [])} if adapter else set()
    event: journal.LargestStep = {
        "batch": step.batch,
        "length": step.length,
        "completion": step.completion,
        "labelled": step.labelled,
        "rollouts": step.rollouts,
        "group": step.group,
        "reference": step.reference,
        "rank": adapter.r if adapter else 0,
        "device": profile.device,
        "dtype_bytes": profile.dtype.itemsize,
        "checkpointing": profile.gradient_checkpointing,
        "shapes": step.shapes,
        "accumulation": step.accumulation,
        "optimizer": entry.optimizer,
        "targets": [] if every else sorted(named or []),
        "dora": adapter is not None and adapter.use_dora,
        "embeddings": bool(whole - SCORING_HEADS),
        "processes": processes.count(),
        "sharding": "full" if profile.sharded else "none",
    }
    if step.image_tokens:
        event["image_tokens"] = step.image_tokens
    if entry.vision != "frozen":
        event["vision"] = entry.vision
    return event


def lineage_of(policy: OpenModel, spec: TrainingSpec, profile: Profile) -> lineage.Lineage:
    """The lineage for the model's folder."""
    started = lineage.read(spec.start)
    parents = {folder.name: manifest.read(folder) for folder in (spec.start, *spec.upstream)}
    origin = lineage.collect(
        base=policy.base,
        source=started["base"]["source"] if "base" in started else started["source"],
        inputs=spec.inputs,
        params=spec.params,
        seed=spec.entry.seed,
        device=profile.name,
    )
    of_base = started.get("base", started)
    if kwargs := of_base.get("chat_template_kwargs"):
        origin["base"]["chat_template_kwargs"] = kwargs
    if spec.datasets:
        origin["datasets"] = spec.datasets
    origin["method"] = {"objective": spec.objective, "weights": spec.entry.weights}
    origin["processes"] = {"number": processes.count(), "sharding": "full" if profile.sharded else "none"}
    if spec.engine is not None:
        origin["engine"] = spec.engine
    if spec.entry.weights != "full":
        origin["on"] = {"model": policy.full_weights.name, **_digests(manifest.read(policy.full_weights))}
    origin["parents"] = {name: _digests(parent) for name, parent in parents.items()}
    return origin


def costs(spec: TrainingSpec) -> dict[str, float]:
    """The duration, in seconds, of every training that this one builds on, by model."""
    seconds: dict[str, float] = {}
    for folder in (spec.start, *spec.upstream):
        path = folder / journal.NAME
        if path.exists():  # not for the base
            seconds |= journal.first(journal.read(path), "end")["costs"]
    return seconds


def _digests(folder: Manifest) -> lineage.Digests:
    return {"digest": folder.digest, "weights_digest": folder.weights_digest}
