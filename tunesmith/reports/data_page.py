"""What was found in a data set: reports/data/<dataset>.json, and a page that shows it."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data import readers
from tunesmith.data.conversations import CONTEXTS, PROMPTS, SYSTEMS
from tunesmith.data.dataset import Dataset
from tunesmith.data.prepare import NOT_BAD, CheckedRows, SplitFile
from tunesmith.data.row_checks import Lengths
from tunesmith.data.splits import SPLITS
from tunesmith.reports import templating
from tunesmith.verifiers.catalog import VERIFIERS

BINS = 40
SHOWN = 3
"""Rows shown for each reason."""
CHART = (720, 150)
"""Width and height of a histogram's drawing area, in SVG units."""


def report(
    name: str, dataset: Dataset, found: CheckedRows, written: dict[str, SplitFile], lengths: Lengths | None
) -> dict[str, Any]:
    """Counts, lengths, digests and notes, as JSON."""
    reasons = Counter(problem.check for problem in found.problems)
    kept = sum(split.rows for split in written.values())
    return {
        "dataset": name,
        "file": str(dataset.path),
        "kind": dataset.kind,
        "rows": found.total,
        "good": len(found.index),
        "quarantined": len(found.problems),
        "bad": sum(count for check, count in reasons.items() if check not in NOT_BAD),
        "reasons": dict(reasons.most_common()),
        "examples": _examples(found),
        "layouts": _by_words(found),
        "splits": {split: written[split].rows for split in SPLITS},
        "left_out_by_limit": len(found.index) - kept,
        "digests": {split: written[split].digest for split in SPLITS},
        "tokens": None if lengths is None else _tokens(dataset, found, lengths),
        "notes": _notes(dataset, found),
    }


def page(report: dict[str, Any]) -> str:
    """The report as HTML."""
    charts = []
    if report["tokens"] is not None:
        charts = [
            (title, chart(report["tokens"][part]))
            for title, part in (("Tokens of the prompt", "prompt"), ("Tokens of prompt and answer", "whole"))
        ]
    return templating.render_html("data.html.j2", report=report, charts=charts, size=CHART, aside=NOT_BAD)


def chart(lengths: dict[str, Any]) -> dict[str, Any]:
    """The bars of a histogram as SVG rectangles: x, width and height; and what its axes say."""
    width, height = CHART
    counts = lengths["histogram"]["counts"]
    step, top = width / len(counts), max(counts)
    bars = [
        (round(place * step, 1), round(step - 1, 1), round(count / top * height, 1))
        for place, count in enumerate(counts)
    ]
    edges = lengths["histogram"]["edges"]
    titles = [
        f"{low} to {high - 1} tokens: {count:,} rows"
        for (low, high), count in zip(itertools.pairwise(edges), counts, strict=True)
    ]
    return {**lengths, "bars": list(zip(bars, titles, strict=True)), "top": top, "low": edges[0], "high": edges[-1] - 1}


def _tokens(dataset: Dataset, found: CheckedRows, lengths: Lengths) -> dict[str, Any] | None:
    """Token lengths of the good rows, and how many would be cut at other lengths."""
    whole = found.index["tokens"]
    return {
        "max_length": min(dataset.max_length or lengths.context, lengths.context),
        "context": lengths.context,
        "prompt": _distribution(found.index["prompt_tokens"]),
        "whole": _distribution(whole),
        "longer_than": {str(2**power): int((whole > 2**power).sum()) for power in range(6, 14)},
    }


def _distribution(values: npt.NDArray[np.int32]) -> dict[str, Any]:
    low, high = int(values.min()), int(values.max())
    step = max(1, -(-(high + 1 - low) // BINS))
    edges = np.arange(low, high + 1 + step, step)
    counts, _ = np.histogram(values, edges)
    return {
        "total": int(values.sum()),
        "mean": round(float(values.mean()), 1),
        **{
            name: int(np.percentile(values, share, method="lower"))
            for name, share in (("min", 0), ("median", 50), ("p95", 95), ("p99", 99), ("max", 100))
        },
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _examples(found: CheckedRows) -> dict[str, list[dict[str, Any]]]:
    """The first rows of each reason, without their text, which may hold secrets."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for problem in found.problems:
        of_check = shown.setdefault(problem.check, [])
        if len(of_check) < SHOWN:
            of_check.append({"line": problem.line, "reason": problem.reason})
    return shown


def _by_words(found: CheckedRows) -> dict[str, int]:
    words: Counter[str] = Counter()
    for (what, _), count in found.layouts.items():
        words[what] += count
    return dict(words.most_common())


def _notes(dataset: Dataset, found: CheckedRows) -> list[str]:
    notes = []
    if readers.starts_with_bom(dataset.path):
        notes.append("The file begins with a byte order mark, which was left out.")
    unused = unused_columns(dataset, found)
    if unused:
        notes.append(f"Columns not used: {', '.join(unused)}.")
    verifiers = {str(found.row(position).get("verifier", "number")) for position in range(min(len(found.index), 1000))}
    notes += [
        f"There is no verifier {name!r} here: answers were not checked with it, and GRPO refuses these rows."
        for name in sorted(verifiers - VERIFIERS.keys())
    ]
    return notes


def unused_columns(dataset: Dataset, found: CheckedRows) -> list[str]:
    """Columns of the file that no ready row was made of."""
    present = {name for names in found.columns for name in names}
    if dataset.columns is not None:
        taken = " ".join(dataset.columns.values())
        return sorted(name for name in present if name not in taken)
    used = {name for _, columns in found.layouts for name in columns}
    beside = {*SYSTEMS, *(CONTEXTS if used & {*PROMPTS} else ())}
    return sorted(present - used - beside)
