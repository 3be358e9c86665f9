"""What is trained, from what, on what: said by a stage, written to the journal and to the lineage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core import journal, lineage, manifest
from tunesmith.core.manifest import Manifest
from tunesmith.models import weights
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.planning import memory, model_shape
from tunesmith.planning.workload import Run


@dataclass(frozen=True)
class Task:
    """One training.

    start: the folder of the model it starts from. upstream: folders of other trained models that it uses.
    inputs: files of ready rows. params: every section that shaped it. footprint: what its memory is predicted from.
    """

    out: Path
    objective: str
    title: str
    kind: weights.Kind
    start: Path
    dataset: str
    rows: int
    inputs: list[Path]
    params: dict[str, Any]
    seed: int
    footprint: Run | None = None
    upstream: tuple[Path, ...] = ()

    @property
    def method(self) -> str:
        return f"{self.title} {weights.NAMES[self.kind]}"


def about(task: Task, on: Path) -> dict[str, Any]:
    """For the journal's start. on: the folder of the weights that are trained, or that the adapter is on."""
    predicted = memory.predict(model_shape.read(str(on)), task.footprint).total if task.footprint else None
    return {
        "model": task.out.name,
        "method": task.method,
        "objective": task.objective,
        "weights": task.kind,
        "start": task.start.name,
        "params": task.params,
        "dataset": task.dataset,
        "rows": task.rows,
        "predicted_memory_bytes": predicted,
    }


def lineage_of(policy: OpenModel, task: Task, profile: Profile) -> lineage.Lineage:
    """For the model's folder."""
    started = lineage.read(task.start)
    parents = {folder.name: manifest.read(folder) for folder in (task.start, *task.upstream)}
    origin = lineage.collect(
        base=policy.base,
        source=started["base"]["source"] if "base" in started else started["source"],
        inputs=task.inputs,
        params=task.params,
        seed=task.seed,
        device=profile.name,
    )
    on = {} if task.kind == "full" else {"on": {"model": policy.on.name, **_digests(manifest.read(policy.on))}}
    return {
        **origin,
        "method": {"objective": task.objective, "weights": task.kind},
        **on,
        "parents": {name: _digests(stated) for name, stated in parents.items()},
    }


def costs(task: Task) -> dict[str, float]:
    """Seconds of every training that this one builds on, by model."""
    found: dict[str, float] = {}
    for folder in (task.start, *task.upstream):
        path = folder / journal.NAME
        if path.exists():  # the base has none
            found |= journal.first(journal.read(path), "end")["costs"]
    return found


def _digests(stated: Manifest) -> dict[str, str]:
    return {"digest": stated.digest, "weights_digest": stated.weights_digest}
