"""Is a model that was made again the same? Byte by byte, then what its origin says, then by its scores."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.core import journal, lineage, statistics
from tunesmith.core.lineage import Lineage
from tunesmith.core.manifest import WEIGHTS, Manifest
from tunesmith.core.ready_rows import Sample

EXPECTED = {journal.NAME: "when each step ran", lineage.NAME: "when it was made, and by what bytes of its parents"}
"""Files that differ between any two runs, with what differs in them. What they share is compared on its own."""
PASSING = ("created", "command")
"""Of a lineage: what no two runs share, or what says nothing about the result."""

Scores = dict[str, float]
"""By prompt."""
SCORES = "scores.json"
"""Among what is signed about a version: its scores, by suite and prompt."""


@dataclass(frozen=True)
class Change:
    """A value of a lineage, by its dotted name, that is another now; None where there is none."""

    name: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Likeness:
    """Names of files: of equal bytes, of others as expected, and of others that should be equal, each in words.

    weights: whether every safetensors file is the same. origin: what the two lineages say differently. exact: whether
    the bytes should be equal: both were made on the same CPU, by the same libraries.
    """

    same: tuple[str, ...]
    expected: tuple[str, ...]
    differ: tuple[str, ...]
    weights: bool
    origin: tuple[Change, ...]
    exact: bool

    @property
    def identical(self) -> bool:
        return self.weights and not self.differ


@dataclass(frozen=True)
class Measured:
    """A suite's mean score then and now. floor: the measured noise, None where it was not; flipped: see `Noise`.

    missing: prompts that were graded in one of the two only; scores that leave some out prove nothing.
    """

    suite: str
    then: float
    now: float
    floor: float | None
    flipped: float
    missing: int = 0

    @property
    def within(self) -> bool:
        return not self.missing and abs(self.now - self.then) <= (self.floor or 0.0)


def compare(then: Manifest, now: Manifest, origin: Lineage, made: Lineage) -> Likeness:
    """then, origin: of the model as registered. now, made: of the one that was made again."""
    names = sorted(then.files.keys() | now.files.keys())
    other = [name for name in names if then.files.get(name) != now.files.get(name)]
    return Likeness(
        same=tuple(name for name in names if name not in other),
        expected=tuple(name for name in other if name in EXPECTED and name in then.files and name in now.files),
        differ=tuple(
            f"{name} ({'only then' if name not in now.files else 'only now'})"
            if (name in then.files) != (name in now.files)
            else name
            for name in other
            if name not in EXPECTED or (name in then.files) != (name in now.files)
        ),
        weights=then.weights_digest == now.weights_digest and any(name.endswith(WEIGHTS) for name in then.files),
        origin=tuple(changes(origin, made)),
        exact=_on_cpu(made) and all(origin.get(part) == made.get(part) for part in ("hardware", "environment")),
    )


def changes(then: Lineage, now: Lineage) -> list[Change]:
    """What differs beyond what must. Two models of the same weights are one parent, whatever their journals say."""
    before, after = _flat(then), _flat(now)
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and not {*name.split(".")} & {*PASSING}
        and not (name.endswith(".digest") and _same_weights(name, before, after))
    ]


def measure(
    then: dict[str, Scores], now: dict[str, Scores], base: dict[str, Scores], repeats: dict[str, list[Scores]]
) -> list[Measured]:
    """By suite, scores then and now of the prompts that both answered; the floor is the base's against itself."""
    found = []
    for suite in then.keys() | now.keys():
        old, new = then.get(suite, {}), now.get(suite, {})
        missing = len(old.keys() ^ new.keys())
        shared = sorted(old.keys() & new.keys())
        if not shared:
            found.append(Measured(suite, math.nan, math.nan, None, 1.0, missing))
            continue
        noises = [
            statistics.noise([base[suite][key] for key in both], [again[key] for key in both])
            for again in repeats.get(suite, [])
            if (both := sorted(base[suite].keys() & again.keys()))
        ]
        before, after = ([scores[key] for key in shared] for scores in (old, new))
        floor = max((noise.floor for noise in noises), default=None)
        means = sum(before) / len(shared), sum(after) / len(shared)
        found.append(Measured(suite, *means, floor, statistics.noise(before, after).flipped, missing))
    return sorted(found, key=lambda one: one.suite)


def scores(samples: Sequence[Sample]) -> dict[str, Scores]:
    """By suite and prompt, of what could be graded."""
    found: dict[str, Scores] = {}
    for sample in samples:
        if sample["status"] != "not_gradable":
            found.setdefault(sample["suite"], {})[sample["id"]] = float(sample["score"])
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _on_cpu(made: Lineage) -> bool:
    """`device.detect` names a CPU with its threads and precision."""
    return re.search(r" x \d+, \w+$", made["hardware"]["device"]) is not None


def _same_weights(name: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    weights = f"{name.removesuffix('digest')}weights_digest"
    return before.get(weights) is not None and before.get(weights) == after.get(weights)
