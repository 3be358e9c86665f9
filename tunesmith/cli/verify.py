"""`tunesmith verify`: grade the answers in a file, one verdict a line."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tunesmith.core import cpus
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row, reference
from tunesmith.data import layouts, readers
from tunesmith.data.records import Record, RowError
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Columns, Verdict


def run(path: Path, name: str) -> None:
    """Print a verdict for every row of ``path`` as a JSON line, and the mean score on standard error.

    A line has its ``completion``, as text, and the columns that the verifier needs, beside it or, as in samples.jsonl,
    in its ``row``. In any other known layout the row's own answer is graded, which should get full marks. Raises
    DataError for a line of neither form, and where no answer could be graded.
    """
    if name not in catalog.VERIFIERS:
        raise DataError(f"there is no verifier {name!r}", fix=f"name one of {', '.join(catalog.VERIFIERS)}")
    counts: Counter[str] = Counter()
    total, reason = 0.0, "the file has no rows"
    with ThreadPoolExecutor(cpus.usable_cpus()) as pool:
        for line, verdict in pool.map(lambda answer: _grade(answer, name), _rows(path)):
            print(json.dumps({"line": line, **asdict(verdict)}))
            counts[verdict.status] += 1
            total += verdict.score
            reason = verdict.reason
    graded = counts.total() - counts["not_gradable"]
    if not graded:
        raise DataError(
            f"{path}: {name} can grade none of {counts.total()} answers; the last: {reason}",
            fix="name another verifier, or give each row the columns that this one reads",
        )
    others = ", ".join(f"{counts[status]} {status.replace('_', ' ')}" for status in ("no_answer", "not_gradable"))
    print(f"{path}: mean score {total / graded:.4f} ({total:g} of {graded}), {others}", file=sys.stderr)


def _grade(answer: tuple[int, Columns, str], name: str) -> tuple[int, Verdict]:
    line, row, completion = answer
    return line, catalog.verify(name, completion, row)


def _rows(path: Path) -> Iterator[tuple[int, Columns, str]]:
    """The line number, the row and the text to grade of every answer in ``path``."""
    for record in readers.read(path):
        if not isinstance(record, Record):
            raise DataError(f"{path}:{record.line}: {record.reason}", fix="correct that line")
        fields, row = record.fields, record.fields.get("row")
        if isinstance(completion := fields.get("completion"), str):
            yield record.line, row if isinstance(row, dict) else fields, completion  # a sample nests its row
            continue
        row = fields if "prompt" in fields and "completion" in fields else _ready(path, record)
        yield record.line, row, reference(row) if row.keys() & {"reference", "completion"} else ""


def _ready(path: Path, record: Record) -> Row:
    """The ready row of a record of a known layout. Raises DataError for any other."""
    layout = layouts.recognise(record.fields)
    try:
        if layout is None or layout.kind is None:
            raise layouts.unrecognised(record.fields, "answers")
        return layout.to_row(record.fields)
    except RowError as error:
        raise DataError(
            f"{path}:{record.line}: {error}", fix="give each row a `completion` and the columns that the verifier needs"
        ) from None
