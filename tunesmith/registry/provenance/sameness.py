"""Compare a rebuilt model with the original: byte by byte, then by lineage, then by scores."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core import journal, lineage, statistics
from tunesmith.core.lineage import Lineage
from tunesmith.core.manifest import WEIGHTS, Manifest
from tunesmith.core.ready_rows import Sample

CONFIG = "adapter_config.json"
EXPECTED = {
    journal.NAME: "when each step ran",
    lineage.NAME: "when it was made, and by what bytes of its parents",
    CONFIG: "in which folder its local base lies",
}
"""Files that differ between any two runs, and the reason; an adapter's config only on a base that is not the hub's. The
rest of the lineage is compared by itself."""
INCIDENTAL = ("created", "command")
"""Parts of a lineage that differ between any two runs, or do not affect the result."""

Scores = dict[str, float]
"""Scores by the id of the prompt."""
SCORES = "scores.json"
"""The file of evidence with a version's scores, by suite and prompt."""


@dataclass(frozen=True)
class Change:
    """A value that two lineages do not share, by its dotted name; None where a lineage lacks it."""

    name: str
    then: object
    now: object


@dataclass(frozen=True)
class FileComparison:
    """The comparison of two models by files and lineage."""

    same: tuple[str, ...]
    """Names of the files with equal bytes."""
    expected: tuple[str, ...]
    """Names of the files that differ between any two runs, and do."""
    differ: tuple[str, ...]
    """Names of the files that should be equal and are not, with a note where only one model has the file."""
    weights: bool
    """Whether every safetensors file is the same."""
    origin: tuple[Change, ...]
    """The differences of the two lineages."""
    exact: bool
    """Whether the bytes should be equal: both models were made on the same kind of CPU, by the same libraries
    and package."""

    @property
    def identical(self) -> bool:
        return self.weights and not self.differ


@dataclass(frozen=True)
class ScoreComparison:
    """The comparison of two models by their mean scores on a suite."""

    suite: str
    then: float
    now: float
    floor: float | None
    """The measured noise floor of the mean score; None where it was not measured."""
    flipped: float
    """See `statistics.Noise`."""
    missing: int = 0
    """Prompts that were graded for only one of the models. With any, the means cannot be compared."""

    @property
    def within(self) -> bool:
        return not self.missing and abs(self.now - self.then) <= (self.floor or 0.0)


def compare(
    then: Manifest, now: Manifest, origin: Lineage, rebuilt: Lineage, *, elsewhere: bool = False
) -> FileComparison:
    """Compare the manifest ``then`` and lineage ``origin`` of the original with those of the rebuilt model.

    elsewhere: whether the configs of the two adapters differ in the folder of a local base alone (`based_elsewhere`).
    """
    names = sorted(then.files.keys() | now.files.keys())
    other = [name for name in names if then.files.get(name) != now.files.get(name)]
    allowed = EXPECTED.keys() - ({CONFIG} if not elsewhere else set())
    return FileComparison(
        same=tuple(name for name in names if name not in other),
        expected=tuple(name for name in other if name in allowed and name in then.files and name in now.files),
        differ=tuple(
            f"{name} ({'only then' if name not in now.files else 'only now'})"
            if (name in then.files) != (name in now.files)
            else name
            for name in other
            if name not in allowed or (name in then.files) != (name in now.files)
        ),
        weights=then.weights_digest == now.weights_digest and any(name.endswith(WEIGHTS) for name in then.files),
        origin=tuple(changes(origin, rebuilt)),
        exact=_on_cpu(rebuilt)
        and all(origin.get(part) == rebuilt.get(part) for part in ("hardware", "environment"))
        and origin["code"].get("package") == rebuilt["code"].get("package"),
    )


def based_elsewhere(then: Path, now: Path) -> bool:
    """Whether the configs in two adapters' folders differ in the folder of a local base, and in nothing else."""
    if not all((folder / CONFIG).exists() for folder in (then, now)):
        return False
    first, second = (json.loads((folder / CONFIG).read_text()) for folder in (then, now))
    is_local = all(config.get("revision") is None for config in (first, second))
    name = "base_model_name_or_path"
    return is_local and first != second and first | {name: None} == second | {name: None}


def changes(then: Lineage, now: Lineage) -> list[Change]:
    """List the differences of two lineages, except incidental ones and digests of parents with the same weights."""
    before, after = _flat(then), _flat(now)
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and not {*name.split(".")} & {*INCIDENTAL}
        and not (name.endswith(".digest") and _same_weights(name, before, after))
    ]


def measure(
    then: dict[str, Scores], now: dict[str, Scores], base: dict[str, Scores], repeats: dict[str, list[Scores]]
) -> list[ScoreComparison]:
    """Compare the mean scores of each suite over the prompts that both models answered.

    The noise floor is the largest change of the base against its own repeats.
    """
    comparisons = []
    for suite in then.keys() | now.keys():
        old, new = then.get(suite, {}), now.get(suite, {})
        missing = len(old.keys() ^ new.keys())
        shared = sorted(old.keys() & new.keys())
        if not shared:
            comparisons.append(ScoreComparison(suite, math.nan, math.nan, None, 1.0, missing))
            continue
        noises = [
            statistics.noise([base[suite][key] for key in both], [repeat[key] for key in both])
            for repeat in repeats.get(suite, [])
            if (both := sorted(base[suite].keys() & repeat.keys()))
        ]
        before, after = ([scores[key] for key in shared] for scores in (old, new))
        floor = max((noise.floor for noise in noises), default=None)
        means = sum(before) / len(shared), sum(after) / len(shared)
        comparisons.append(ScoreComparison(suite, *means, floor, statistics.noise(before, after).flipped, missing))
    return sorted(comparisons, key=lambda comparison: comparison.suite)


def scores(samples: Sequence[Sample]) -> dict[str, Scores]:
    """Return the scores of the gradable samples, by suite and prompt."""
    by_suite: dict[str, Scores] = {}
    for sample in samples:
        if sample["status"] != "not_gradable":
            by_suite.setdefault(sample["suite"], {})[sample["row"]["id"]] = float(sample["score"])
    return by_suite


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _on_cpu(origin: Lineage) -> bool:
    """Return whether the device is a CPU, which `models.device.detect` names with its threads and precision."""
    return re.search(r" x \d+, \w+$", origin["hardware"]["device"]) is not None


def _same_weights(name: str, before: dict[str, object], after: dict[str, object]) -> bool:
    weights = f"{name.removesuffix('digest')}weights_digest"
    return before.get(weights) is not None and before.get(weights) == after.get(weights)
