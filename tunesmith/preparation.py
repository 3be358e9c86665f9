"""Turn a raw file into ready rows: map columns, set bad rows aside, split by the hash of the prompt.

The split of a row depends on its prompt alone: no prompt is in two splits, the order of rows does not matter, and
appending rows moves no old row to another split.
"""

import hashlib
import json
import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, model_validator

from tunesmith import records
from tunesmith.errors import DataError
from tunesmith.params import Section
from tunesmith.records import Problem, Record

Share = Annotated[float, Field(ge=0, le=1)]
SPLITS = ("train", "validation", "test")


class Columns(Section):
    """Names of the columns that hold what is asked and what a good answer is."""

    prompt: str
    completion: str


class Splits(Section):
    """Shares of the rows; what is left trains."""

    validation: Share
    test: Share

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if self.validation + self.test > 1:
            raise ValueError("validation and test together exceed 1")
        return self


class Limit(Section):
    """At most so many rows a split, chosen by hash; null takes all."""

    train: NonNegativeInt | None
    validation: NonNegativeInt | None
    test: NonNegativeInt | None


class Dataset(Section):
    path: Path
    columns: Columns
    system: str | None
    """A system message put before every prompt; null leaves it to the chat template."""
    splits: Splits
    limit: Limit
    max_bad_share: Share
    """Stop when more than this share of the rows is bad; exact duplicates are set aside, but not bad."""


@dataclass(frozen=True)
class Prepared:
    """splits: split name -> ready rows, in hash order. report: counts, for reports/data/<dataset>.json."""

    splits: dict[str, list[dict[str, Any]]]
    problems: list[Problem]
    report: dict[str, Any]


def prepare(dataset: Dataset) -> Prepared:
    """Read, check and split ``dataset``.

    Raises DataError where the file cannot be read, a column is in no row, no row is good, or too many are bad.
    """
    found = list(records.read(dataset.path))
    read = [record for record in found if isinstance(record, Record)]
    _check_columns(dataset, read)
    problems = [problem for problem in found if isinstance(problem, Problem)]
    duplicates: list[Problem] = []
    rows: dict[str, tuple[int, dict[str, Any]]] = {}
    for record in read:
        row = to_answer(record, dataset)
        if isinstance(row, Problem):
            problems.append(row)
        elif row["id"] in rows:
            first = rows[row["id"]][0]
            duplicates.append(Problem(record.line, f"exact duplicate: of line {first}", _raw(record)))
        else:
            rows[row["id"]] = (record.line, row)
    _check_share(dataset, problems, len(found))
    problems = sorted(problems + duplicates, key=lambda problem: problem.line)
    splits = split([row for _, row in rows.values()], dataset.splits)
    kept = {name: part[: getattr(dataset.limit, name)] for name, part in splits.items()}
    report = {
        "file": str(dataset.path),
        "rows": len(found),
        "good": len(rows),
        "quarantined": len(problems),
        "reasons": dict(Counter(problem.reason.split(":")[0] for problem in problems).most_common()),
        "splits": {name: len(part) for name, part in kept.items()},
        "left_out_by_limit": len(rows) - sum(map(len, kept.values())),
    }
    return Prepared(kept, problems, report)


def to_answer(record: Record, dataset: Dataset) -> dict[str, Any] | Problem:
    """A ready row {id, prompt: [messages], completion: [messages]}, or what keeps the record from being one."""
    text: dict[str, str] = {}
    for role, column in (("prompt", dataset.columns.prompt), ("completion", dataset.columns.completion)):
        value = record.fields.get(column)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            value = str(value)
        if value is None or value != value:  # not a number is how tables write nothing
            return Problem(record.line, f"missing {role}: no value in column {column!r}", _raw(record))
        if not isinstance(value, str):
            return Problem(record.line, f"wrong type: {role} is {type(value).__name__}, not text", _raw(record))
        if not value.strip():
            return Problem(record.line, f"empty {role}: column {column!r} holds only space", _raw(record))
        text[role] = value
    system = [{"role": "system", "content": dataset.system}] if dataset.system else []
    prompt = [*system, {"role": "user", "content": text["prompt"]}]
    completion = [{"role": "assistant", "content": text["completion"]}]
    identity = json.dumps([prompt, completion], sort_keys=True).encode()
    return {"id": hashlib.sha256(identity).hexdigest()[:16], "prompt": prompt, "completion": completion}


def split(rows: list[dict[str, Any]], shares: Splits) -> dict[str, list[dict[str, Any]]]:
    """Rows by split, each in the order of its prompt's hash."""
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for position, row in sorted(((prompt_position(row["prompt"]), row) for row in rows), key=_hash_order):
        if position < shares.test:
            parts["test"].append(row)
        elif position < shares.test + shares.validation:
            parts["validation"].append(row)
        else:
            parts["train"].append(row)
    return parts


def prompt_position(prompt: list[dict[str, str]]) -> float:
    """Where a prompt falls in [0, 1): its SHA-256 after NFKC, case folding and joining of white space."""
    text = "\n".join(message["role"] + " " + message["content"] for message in prompt)
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return int.from_bytes(hashlib.sha256(normal.encode()).digest()[:6]) / 2**48


def _hash_order(item: tuple[float, dict[str, Any]]) -> tuple[float, str]:
    return item[0], item[1]["id"]


def _raw(record: Record) -> str:
    return json.dumps(record.fields, ensure_ascii=False, default=str)


def _check_columns(dataset: Dataset, read: list[Record]) -> None:
    present = {column for record in read for column in record.fields}
    for role, column in (("prompt", dataset.columns.prompt), ("completion", dataset.columns.completion)):
        if read and column not in present:
            raise DataError(
                f"{dataset.path}: no column {column!r}; the file has {', '.join(map(repr, sorted(present)))}",
                fix=f"name the {role} column in params.yaml, data.<dataset>.columns.{role}",
            )


def _check_share(dataset: Dataset, problems: list[Problem], total: int) -> None:
    if not total:
        raise DataError(f"{dataset.path}: the file has no rows", fix=records.EMPTY)
    if len(problems) < total and len(problems) <= dataset.max_bad_share * total:
        return
    shown = "".join(f"\n  {dataset.path}:{problem.line}: {problem.reason}" for problem in problems[:5])
    more = f"\n  ... and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise DataError(
        f"{dataset.path}: {len(problems)} of {total} rows are bad, more than max_bad_share "
        f"({dataset.max_bad_share:g}) allows:{shown}{more}",
        fix="mend those lines, or raise data.<dataset>.max_bad_share in params.yaml to set them aside",
    )
