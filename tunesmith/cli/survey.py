"""Group the rows of a data set by layout, each group with the trainings that it allows."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.core.ready_rows import RowKind, answer_text
from tunesmith.data import layouts, parallel, readers, row_builders, row_kinds
from tunesmith.data.columns import cells
from tunesmith.data.images import markers
from tunesmith.data.images.parts import shown
from tunesmith.data.readers import Files
from tunesmith.data.records import Block, Problem, Record, RowError
from tunesmith.verifiers import catalog, choice, number
from tunesmith.verifiers.math import final_answer

EXAMPLES = 3
"""Number of rows that a group shows."""
MIN_CHECKABLE = 0.99
"""Share of the answers that must be checkable before a verifier is proposed."""
CHECKABLE: dict[str, Callable[[str], bool]] = {
    "number": number.is_marked,
    "choice": choice.is_marked,
    "math": final_answer.is_marked,
}
"""Verifiers that are proposed for answers, the narrowest first, and whether one can read an answer."""
REASON = 160
"""Characters of a reason."""
UNKNOWN = "unknown"


@dataclass
class RowGroup:
    """The rows of one layout.

    checkable: for each verifier that may check answers, the number of rows whose answer it can read. ungradable: the
    number of rows to which their own verifier can grade no answer, by the reason. good: number of answers that are
    marked good. low, high: the extremes of the ratings. seeing: number of rows that show images. examples: the first
    rows, each with its file, its line number and its parts as text.
    """

    description: str
    kind: RowKind | None
    rows: int = 0
    good: int = 0
    low: float = math.inf
    high: float = -math.inf
    seeing: int = 0
    checkable: Counter[str] = field(default_factory=Counter)
    ungradable: Counter[str] = field(default_factory=Counter)
    verifiers: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[Path, int, list[str]]] = field(default_factory=list)

    def add(self, other: "RowGroup") -> None:
        self.rows += other.rows
        self.checkable += other.checkable
        self.good += other.good
        self.seeing += other.seeing
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.ungradable += other.ungradable
        self.verifiers += other.verifiers
        self.examples = (self.examples + other.examples)[:EXAMPLES]

    @property
    def needs_verifier(self) -> bool:
        """Whether the rows bring right answers, and no verifier that reads them."""
        return self.kind == "scored" and not self.verifiers

    @property
    def verifier(self) -> str | None:
        """The verifier that most rows name, else one that can check their answers."""
        if self.verifiers:
            return self.verifiers.most_common(1)[0][0]
        fitting = [name for name in CHECKABLE if self.checkable[name] >= MIN_CHECKABLE * self.rows]
        return fitting[0] if self.rows and fitting else None

    @property
    def neutral_rating(self) -> float | None:
        """Half-way between the lowest and the highest rating; None where answers are not rated."""
        return (self.low + self.high) / 2 if self.low <= self.high else None

    def line(self) -> str:
        """The group and the trainings that it allows, in one line."""
        if self.kind is None:
            return f"{self.description}: not ready"
        uses = [row_kinds.LEARNS_FROM[objective][0] for objective in row_kinds.objectives(self.kind, self.verifier)]
        if "GRPO" in uses and self.ungradable.total() > (1 - MIN_CHECKABLE) * self.rows:
            uses.remove("GRPO")
            uses.append(f"no GRPO, since {self.ungradable.most_common(1)[0][0]}")
        elif "GRPO" in uses:
            uses[uses.index("GRPO")] = f"GRPO (verifier {self.verifier})"
        if self.kind == "preferences":
            rlhf = "no RLHF, since reward models read no images" if self.seeing else "RLHF (reward model, then RL)"
            uses = ["DPO", rlhf]
        if self.kind == "marks" and self.neutral_rating is None:
            uses = [f"KTO ({self.good:,} good, {self.rows - self.good:,} bad)"]
        if self.kind == "scored" and not uses:
            uses = [f"GRPO, if there were a verifier {self.verifier!r}"]
        return f"{self.description}: {', '.join(uses)}"


def survey(files: Files) -> tuple[list[RowGroup], int]:
    """The groups of rows in ``files``, largest first, and the number of rows that could not be read."""
    groups: dict[str, RowGroup] = {}
    unreadable = 0
    # `advise` checks the rows next: the process that workers are forked from loads that module too.
    for part, lost in parallel.ordered(_survey, files.blocks(), preload=["tunesmith.data.row_checks"]):
        unreadable += lost
        for group in part.values():
            _merge(groups, group)
    return sorted(groups.values(), key=lambda group: -group.rows), unreadable


def _survey(block: Block) -> tuple[dict[str, RowGroup], int]:
    """The groups of rows in one block, by description, and the number of rows that could not be read."""
    groups: dict[str, RowGroup] = {}
    lost = 0
    for record in readers.parse(block):
        if isinstance(record, Problem):
            lost += 1
            continue
        _merge(groups, _group_of(record))
    return groups, lost


def _merge(groups: dict[str, RowGroup], group: RowGroup) -> None:
    if group.description in groups:
        groups[group.description].add(group)
    else:
        groups[group.description] = group


def _group_of(record: Record) -> RowGroup:
    """A group of a single row."""
    fields, seeing = record.fields, 0
    with contextlib.suppress(RowError):  # it is listed with the other problems
        fields, _ = cells.read(fields, table=record.table)
        taken = markers.take(fields)
        fields, seeing = taken.fields, int(bool(taken.sources))
    layout = layouts.recognise(fields)
    description, kind = (layout.description, layout.kind) if layout else (UNKNOWN, None)
    group = RowGroup(description, kind, rows=1, seeing=seeing)
    row = None
    if layout is not None:
        with contextlib.suppress(RowError):  # it is listed with the other problems
            row = layout.to_row(fields)
    if row is None:
        group.examples.append((record.file, record.line, [record.text()]))
    else:
        parts = [row[part] for part in ("prompt", "completion", "chosen", "rejected") if part in row]
        group.examples.append((record.file, record.line, [shown(answer_text(messages[-1])) for messages in parts]))
        name = row.get("verifier", row_builders.UNNAMED)
        group.verifiers.update([name] if name != row_builders.UNNAMED else [])
        label = row.get("label")
        if layout is not None and layout.kind == "marks" and isinstance(label, bool | float):
            group.examples[-1][-1].append(f"{label:g}" if isinstance(label, float) else "good" if label else "bad")
            group.good = int(label is True)
            if isinstance(label, float) and math.isfinite(label):
                group.low = group.high = label
        if name in catalog.VERIFIERS and (reason := catalog.ungradable(name, row)):
            group.ungradable[reason[:REASON]] += 1
        right = row["completion"][-1]["content"] if "completion" in row else row.get("reference")
        if isinstance(right, str) and right:
            group.checkable.update(verifier for verifier, is_marked in CHECKABLE.items() if is_marked(right))
    return group
