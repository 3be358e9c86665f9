"""Data sets for tests: params with every value set, and files written from rows."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tunesmith.data import prepare, readers
from tunesmith.data.dataset import Dataset
from tunesmith.data.lengths import Lengths
from tunesmith.data.prepare import CheckedRows
from tunesmith.data.text_scan import GENERAL_TOKENS


def dataset(path: Path, **changes: Any) -> Dataset:
    """Params of answers in the file at ``path``, with ``changes``; by default nothing is held out."""
    settings: dict[str, Any] = {
        "path": path,
        "kind": "answers",
        "columns": None,
        "system": None,
        "verifier": None,
        "one_answer": True,
        "near_duplicates": None,
        "held_out": {"path": path, "overlap": 0.7},
        "max_length": None,
        "splits": {"validation": 0.1, "test": 0.3},
        "limit": {"train": None, "validation": None, "test": None},
        "max_bad_share": 0.5,
    }
    return Dataset.model_validate(settings | changes)


def write(path: Path, lines: Iterable[str | bytes | dict[str, Any]]) -> Path:
    """Write each line to ``path``, a dict as JSON, and return ``path``."""
    encoded = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def check(stack: ExitStack, dataset: Dataset, lengths: Lengths | None = None) -> CheckedRows:
    files = readers.find(dataset.path, dataset.files)
    return stack.enter_context(prepare.check_files(dataset, files, special_tokens=GENERAL_TOKENS, lengths=lengths))


def good_rows(rows: CheckedRows) -> list[dict[str, Any]]:
    return [rows.row(position) for position in range(len(rows.index))]
