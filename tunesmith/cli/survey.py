"""What sorts of rows a file holds, and what each can train."""

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.core.ready_rows import RowKind
from tunesmith.data import layouts, parallel, readers, row_kinds
from tunesmith.data.chat_formats import RowError
from tunesmith.data.layouts import Layout
from tunesmith.data.records import Block, Problem, Record
from tunesmith.verifiers import number

EXAMPLES = 3
SOLID = 0.99
"""Share of the answers that must be checkable before a verifier is proposed."""
UNKNOWN = "unknown"


@dataclass
class Sort:
    """Rows of one sort. checkable: of them, those whose answer ends in a marked number, or is one. examples: the
    first, each with its line and its parts as text.
    """

    what: str
    kind: RowKind | None
    rows: int = 0
    checkable: int = 0
    verifiers: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, other: "Sort") -> None:
        self.rows += other.rows
        self.checkable += other.checkable
        self.verifiers += other.verifiers
        self.examples = (self.examples + other.examples)[:EXAMPLES]

    @property
    def verifier(self) -> str | None:
        """The verifier that its rows name, or that checks their answers."""
        if self.verifiers:
            return self.verifiers.most_common(1)[0][0]
        return "number" if self.rows and self.checkable >= SOLID * self.rows else None

    def line(self) -> str:
        """The sort, and what it can train, in one line."""
        if self.kind is None:
            return f"{self.what}: not ready"
        uses = [row_kinds.LEARNS_FROM[one][0] for one in row_kinds.objectives(self.kind, self.verifier)]
        if "GRPO" in uses:
            uses[uses.index("GRPO")] = f"GRPO (verifier {self.verifier})"
        if self.kind == "preferences":
            uses = ["DPO", "RLHF (reward model, then RL)"]
        if self.kind == "scored" and not uses:
            uses = [f"GRPO, had we the verifier {self.verifier!r}"]
        return f"{self.what}: {', '.join(uses)}"


def survey(path: Path) -> tuple[list[Sort], int]:
    """The sorts of rows in ``path``, most rows first, and how many rows could not be read."""
    sorts: dict[str, Sort] = {}
    unreadable = 0
    # `advise` checks the rows next: the server that its workers are forked from loads their module as well.
    for found, lost in parallel.ordered(_survey, readers.blocks(path), preload=["tunesmith.data.row_checks"]):
        unreadable += lost
        for what, sort in found.items():
            if what in sorts:
                sorts[what].add(sort)
            else:
                sorts[what] = sort
    return sorted(sorts.values(), key=lambda sort: -sort.rows), unreadable


def _survey(block: Block) -> tuple[dict[str, Sort], int]:
    sorts: dict[str, Sort] = {}
    lost = 0
    for record in readers.parse(block):
        if isinstance(record, Problem):
            lost += 1
            continue
        layout = layouts.recognise(record.fields)
        found = _sort(record, layout)
        if found.what in sorts:
            sorts[found.what].add(found)
        else:
            sorts[found.what] = found
    return sorts, lost


def _sort(record: Record, layout: Layout | None) -> Sort:
    """The sort of a single row."""
    sort = Sort(layout.description if layout else UNKNOWN, layout.kind if layout else None, rows=1)
    row = None
    if layout is not None:
        with contextlib.suppress(RowError):  # what is wrong with it is told with the other problems
            row = layout.to_row(record.fields)
    if row is None:
        sort.examples.append((record.line, [record.text()]))
    else:
        parts = [row[part] for part in ("prompt", "completion", "chosen", "rejected") if part in row]
        sort.examples.append((record.line, [messages[-1]["content"] for messages in parts]))
        sort.verifiers.update([row["verifier"]] if "verifier" in row else [])
        sort.checkable = int("completion" in row and number.is_marked(row["completion"][-1]["content"]))
    return sort
