"""Mixtures: training rows of several data sets, in the shares that params.yaml gives them."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from tunesmith.core.params import EntryName, Section
from tunesmith.core.ready_rows import Row


class Part(Section):
    """A data set of a mixture, with its weight, or with the passes over its rows."""

    name: EntryName
    weight: PositiveFloat | None = None
    """Its share of the mixture is its weight divided by the sum of all weights; 1 where no part has `epochs`."""
    epochs: PositiveFloat | None = None
    """Passes over its training rows in one pass over the mixture, in place of a weight: 2 takes each row twice, 0.5
    half of the rows."""


class Mixture(Section):
    """Rows of several data sets, as one data set to train on."""

    datasets: Annotated[tuple[Part, ...], Field(min_length=2)]
    """The data sets, such as [{name: chat, weight: 2}, {name: sums, weight: 1}]."""
    by: Literal["rows", "tokens"] = "rows"
    """What weights share out: rows, or tokens of prompt and answer."""
    repeat: bool = False
    """Whether a data set that runs out is taken again until the last has run out; otherwise no row is taken twice, and
    the mixture ends where the first data set runs out."""
    seed: NonNegativeInt = 20
    """Seed of which rows are taken, and of their order."""

    @model_validator(mode="after")
    def _consistent(self) -> "Mixture":
        names = [part.name for part in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError("a data set is named twice; give it one weight")
        with_epochs = [part for part in self.datasets if part.epochs is not None]
        if with_epochs and (len(with_epochs) < len(names) or any(part.weight is not None for part in with_epochs)):
            raise ValueError("give every data set a weight, or every one epochs")
        if with_epochs and self.repeat:
            raise ValueError("repeat goes with weights: epochs say how often each row is taken")
        return self

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.datasets]


class Given(TypedDict):
    """What a data set gave to a mixture."""

    rows: int
    """The number of its rows in the mixture, those taken again counted again."""
    tokens: int
    """Tokens of these rows, prompt and answer."""
    epochs: float
    """Passes over its rows: more than 1 where rows are taken again."""
    available: int
    """The number of rows that could be taken."""
    left_out: int
    """The number of training rows with a prompt or an image that a data set of the mixture validates or tests on."""


def mix(
    mixture: Mixture, rows: dict[str, list[Row]], tokens: dict[str, list[int]]
) -> tuple[list[Row], dict[str, tuple[int, int, float]]]:
    """Return the rows of a mixture, and of each data set the rows and tokens that it gave, and the passes over it.

    rows: the training rows of each data set. tokens: the length of each row. A row names its data set, and its id ends
    in ~2 where it is taken for the second time.
    """
    units = {name: tokens[name] if mixture.by == "tokens" else [1] * len(rows[name]) for name in mixture.names}
    passes = epochs(mixture, {name: sum(sizes) for name, sizes in units.items()})
    taken: list[tuple[bytes, Row]] = []
    given = {}
    for name in mixture.names:
        drawn = _draw([row["id"] for row in rows[name]], units[name], passes[name], mixture.seed)
        for position, copy in drawn:
            row = rows[name][position]
            key = row["id"] if copy == 0 else f"{row['id']}~{copy + 1}"
            taken.append((_order(mixture.seed, f"{name} {key}"), {**row, "id": key, "dataset": name}))
        total = sum(tokens[name][position] for position, _ in drawn)
        given[name] = len(drawn), total, sum(units[name][position] for position, _ in drawn) / sum(units[name])
    return [row for _, row in sorted(taken, key=lambda item: item[0])], given


def epochs(mixture: Mixture, sizes: dict[str, int]) -> dict[str, float]:
    """Return the passes over each data set. sizes: of the data sets, in the units that weights share out."""
    if mixture.datasets[0].epochs is not None:
        return {part.name: part.epochs or 0.0 for part in mixture.datasets}
    weights = {part.name: part.weight or 1.0 for part in mixture.datasets}
    totals = [sizes[name] / weight for name, weight in weights.items()]
    total = max(totals) if mixture.repeat else min(totals)
    return {name: total * weight / sizes[name] for name, weight in weights.items()}


def _draw(ids: Sequence[str], units: Sequence[int], passes: float, seed: int) -> list[tuple[int, int]]:
    """Return the positions of the rows of so many passes, each with the number of the pass, from 0.

    The rows of a part of a pass are the first in an order that the seed and the ids decide: a few rows more, or a
    larger share, exchange few of them.
    """
    whole = int(passes + 1e-9)
    drawn = [(position, copy) for copy in range(whole) for position in range(len(ids))]
    wanted = (passes - whole) * sum(units)
    for position in sorted(range(len(ids)), key=lambda position: _order(seed, ids[position])):
        if wanted < units[position] / 2:
            break
        drawn.append((position, whole))
        wanted -= units[position]
    return drawn


def _order(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed} {key}".encode()).digest()
