"""The report of a prepared data set, reports/data/<dataset>.json: rows in numbers, and notes."""

from collections import Counter
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from tunesmith.core.ready_rows import RowKind
from tunesmith.data import readers
from tunesmith.data.dataset import Dataset
from tunesmith.data.lengths import Lengths
from tunesmith.data.personal import rows as personal_rows
from tunesmith.data.prepare import NOT_BAD, CheckedRows, SplitFile
from tunesmith.data.splits import SPLITS
from tunesmith.data.turns.order import SPEAKERS
from tunesmith.verifiers.catalog import VERIFIERS

BINS = 40
"""The largest number of bars of a histogram."""
SHOWN = 3
"""Number of rows shown for each reason."""
EXAMPLE = 60
"""Characters of an example that a note shows."""
REASON, NOTE = 300, 2000
"""Most characters of a reason and of a note, which may quote rows."""


class Histogram(TypedDict):
    """Counts of values between edges; an edge belongs to the bar on its right."""

    edges: list[int]
    counts: list[int]


class Distribution(TypedDict):
    """Token or turn counts of the good rows."""

    total: int
    mean: float
    min: int
    median: int
    p95: int
    p99: int
    max: int
    histogram: Histogram


class TokenLengths(TypedDict):
    """Lengths of the good rows, in tokens of the base."""

    max_length: int
    """The longest row that is kept."""
    context: int
    """The context of the base."""
    prompt: Distribution
    whole: Distribution
    """The distribution of prompt and answer together."""
    longer_than: dict[str, int]
    """The number of rows longer than each of these lengths."""


class Speaker(TypedDict):
    """The turns of a role in the good rows."""

    rows: int
    """The number of rows with at least one."""
    turns: int


class Example(TypedDict):
    """A row that was set aside, without its text."""

    place: str
    """The row's line, with its file where there are several."""
    reason: str


class DataReport(TypedDict):
    """reports/data/<dataset>.json."""

    dataset: str
    path: str
    """The file, folder or pattern that params.yaml names."""
    files: list[str]
    """The files, by their paths below that folder."""
    source: str | None
    """The place that the files were downloaded from, where params.yaml names it."""
    kind: RowKind | None
    """None where each row has its own."""
    rows: int
    good: int
    quarantined: int
    """The number of rows that were set aside."""
    bad: int
    """The number of them that are bad, which duplicates, for example, are not."""
    reasons: dict[str, int]
    """The number of rows set aside for each reason, the most frequent first."""
    examples: dict[str, list[Example]]
    """The first rows of each reason."""
    layouts: dict[str, int]
    """The number of good rows in each layout, in words."""
    splits: dict[str, int]
    """The number of rows in each split."""
    left_out_by_limit: int
    digests: dict[str, str]
    """SHA-256, in hex, of each split's file."""
    personal_data: dict[str, int]
    """The number of rows with each kind of personal data, the most frequent first, whether they stay or not."""
    tokens: TokenLengths | None
    """None if lengths were not counted."""
    turns: Distribution
    """Turns of the prompt and one answer."""
    speakers: dict[str, Speaker]
    """The turns of each role that has any."""
    notes: list[str]


def report(
    name: str, dataset: Dataset, checked: CheckedRows, written: dict[str, SplitFile], lengths: Lengths | None
) -> DataReport:
    """Counts, lengths, digests and notes of a data set."""
    reasons = Counter(problem.check for problem in checked.problems)
    kept = sum(split.rows for split in written.values())
    return {
        "dataset": name,
        "path": checked.files.name,
        "files": [checked.files.relative(file) for file in checked.files.paths],
        "source": dataset.source,
        "kind": dataset.kind,
        "rows": checked.total,
        "good": len(checked.index),
        "quarantined": len(checked.problems),
        "bad": sum(count for check, count in reasons.items() if check not in NOT_BAD),
        "reasons": dict(reasons.most_common()),
        "examples": _examples(checked),
        "layouts": _layouts(checked),
        "splits": {split: written[split].rows for split in SPLITS},
        "left_out_by_limit": len(checked.index) - kept,
        "digests": {split: written[split].digest for split in SPLITS},
        "personal_data": dict(checked.personal.most_common()),
        "tokens": None if lengths is None else _tokens(dataset, checked, lengths),
        "turns": _distribution(checked.index["turns"].sum(axis=1, dtype=np.int32)),
        "speakers": _speakers(checked),
        "notes": [cut(note, NOTE) for note in (*_notes(dataset, checked), *_thoughts(checked, lengths))],
    }


def _tokens(dataset: Dataset, checked: CheckedRows, lengths: Lengths) -> TokenLengths:
    """Token lengths of the good rows, and the number that other limits would cut."""
    whole = checked.index["tokens"]
    return {
        "max_length": min(dataset.max_length or lengths.context, lengths.context),
        "context": lengths.context,
        "prompt": _distribution(checked.index["prompt_tokens"]),
        "whole": _distribution(whole),
        "longer_than": {str(2**power): int((whole > 2**power).sum()) for power in range(6, 14)},
    }


def _distribution(values: npt.NDArray[np.int32]) -> Distribution:
    def percentile(share: int) -> int:
        return int(np.percentile(values, share, method="lower"))

    low, high = int(values.min()), int(values.max())
    step = max(1, -(-(high + 1 - low) // BINS))
    edges = np.arange(low, high + 1 + step, step)
    counts, _ = np.histogram(values, edges)
    return {
        "total": int(values.sum()),
        "mean": round(float(values.mean()), 1),
        "min": low,
        "median": percentile(50),
        "p95": percentile(95),
        "p99": percentile(99),
        "max": high,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _speakers(checked: CheckedRows) -> dict[str, Speaker]:
    turns = checked.index["turns"]
    speakers: dict[str, Speaker] = {
        role: {"rows": int((turns[:, place] > 0).sum()), "turns": int(turns[:, place].sum())}
        for place, role in enumerate(SPEAKERS)
    }
    return {role: speaker for role, speaker in speakers.items() if speaker["rows"]}


def cut(text: str, most: int) -> str:
    """The first ``most`` characters of a text."""
    return text if len(text) <= most else f"{text[:most]}…"


def _examples(checked: CheckedRows) -> dict[str, list[Example]]:
    """The first rows of each reason, without their text, which may hold secrets."""
    examples: dict[str, list[Example]] = {}
    for problem in checked.problems:
        of_reason = examples.setdefault(problem.check, [])
        if len(of_reason) < SHOWN:
            place = checked.files.place(problem.file, problem.line)
            of_reason.append({"place": place, "reason": cut(problem.reason, REASON)})
    return examples


def _layouts(checked: CheckedRows) -> dict[str, int]:
    """The number of good rows in each layout, whatever its columns are called."""
    rows: Counter[str] = Counter()
    for (layout, _), count in checked.layouts.items():
        rows[layout] += count
    return dict(rows.most_common())


def _notes(dataset: Dataset, checked: CheckedRows) -> list[str]:
    notes = []
    files = checked.files
    if files.ignored:
        notes.append(f"Not read: {files.listed(files.ignored)}.")
    if marked := [file for file in files.paths if readers.starts_with_bom(file)]:
        notes.append(f"Left out: the byte order mark at the beginning of {files.listed(marked)}.")
    lines = [*account(dataset, checked), *personal(dataset, checked), *checked.images.lines()]
    notes += [f"{line[0].upper()}{line[1:]}." for line in lines]
    first = range(min(len(checked.index), 1000))
    verifiers = {str(checked.row(position).get("verifier", "number")) for position in first}
    notes += [
        f"There is no verifier {name!r} here: answers were not checked with it, and GRPO refuses these rows."
        for name in sorted(verifiers - VERIFIERS.keys())
    ]
    return notes


def personal(dataset: Dataset, checked: CheckedRows) -> list[str]:
    """The personal data of a data set, in words; none where there is none."""
    if not checked.personal:
        return []
    counts = ", ".join(f"{kind} in {rows:,}" for kind, rows in checked.personal.most_common())
    done = {"mask": "masked", "set_aside": "set aside"}.get(dataset.personal_data, "kept: see personal_data in params")
    return [f"personal data, in rows ({done}): {counts}"]


def _thoughts(checked: CheckedRows, lengths: Lengths | None) -> list[str]:
    """What answers with and without reasoning are rendered as, where there is a difference."""
    if lengths is None or not lengths.unreasoned:
        return []
    return [
        f"Answers without reasoning: the chat template writes {lengths.unreasoned!r} before each, which is trained."
    ]


def account(dataset: Dataset, checked: CheckedRows) -> list[str]:
    """What of the records is not in the ready rows, and what was read otherwise than written, with numbers of rows."""
    lines = []
    if checked.unused:
        counts = ", ".join(f"{name} ({rows:,})" for name, rows in checked.unused.most_common())
        lines.append(f"not used, with the number of rows: {counts}")
    examples = personal_rows.shown([remark.example for remark in checked.remarks.values()], dataset)
    for (name, remark), text in zip(checked.remarks.items(), examples, strict=True):
        example = " ".join(text.split())[:EXAMPLE]
        rows = f"{remark.rows:,} row{'' if remark.rows == 1 else 's'}"
        place = checked.files.place(remark.file, remark.line)
        lines.append(f"{rows}: {name}, first in {place}{': ' * bool(example)}{example}")
    return lines
