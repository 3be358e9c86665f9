"""Turn a raw file into ready rows: check every row, set bad ones aside, then compare rows with each other and split.

Blocks are checked by all CPUs (`tunesmith/data/row_checks.py`); here their results meet. A ready row waits in a file,
and only an index of it is kept in memory, 44 bytes a row and 192 more with near-duplicate signatures.
"""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jiter
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row
from tunesmith.data import duplicates, parallel, readers, splits, text_scan
from tunesmith.data.contamination import EvaluationSets
from tunesmith.data.dataset import Dataset
from tunesmith.data.records import Problem, Record
from tunesmith.data.row_checks import INDEX, Examined, Examiner, Index, Lengths, whole_text
from tunesmith.data.splits import SPLITS

ASIDE = ("exact duplicate", "near duplicate", "in an evaluation set", "overlaps an evaluation set")
"""What is set aside without being bad."""
CHUNK = 2**22

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Found:
    """What a file holds. problems: by line. index: of the good rows, in the file's order; `read` gives them."""

    index: Index
    problems: list[Problem]
    layouts: Counter[tuple[str, tuple[str, ...]]]
    columns: Counter[tuple[str, ...]]
    spill: IO[bytes]
    offsets: npt.NDArray[np.uint64]

    @property
    def total(self) -> int:
        return len(self.index) + len(self.problems)

    def read(self, position: int) -> bytes:
        """A ready row, as a line of JSON."""
        return os.pread(self.spill.fileno(), int(self.index["bytes"][position]), int(self.offsets[position]))

    def row(self, position: int) -> Row:
        row: Row = jiter.from_json(self.read(position))
        return row


@dataclass(frozen=True)
class Written:
    """rows: of a split. digest: SHA-256, in hex, of its file."""

    rows: int
    digest: str


@contextmanager
def find(
    dataset: Dataset,
    *,
    special_tokens: Iterable[str],
    lengths: Lengths | None,
    scratch: Path | None = None,
    fork: bool = False,
) -> Iterator[Found]:
    """Read and check every row of ``dataset``.

    scratch: a folder with room for the ready rows. fork: as in `parallel.ordered`.

    Raises DataError where the file cannot be read, a column is in no row, no row is good, or too many are bad.
    """
    examiner = Examiner(dataset, special_tokens, lengths, EvaluationSets(dataset.held_out, dataset.path))
    with tempfile.TemporaryFile(dir=scratch) as spill:
        blocks, problems = _examine(dataset.path, examiner, spill, fork=fork)
        index = np.concatenate([np.empty(0, INDEX), *(block.index for block in blocks)])
        offsets = np.zeros(len(index), np.uint64)
        np.cumsum(index["bytes"][:-1], out=offsets[1:])
        layouts, columns = Counter[tuple[str, tuple[str, ...]]](), Counter[tuple[str, ...]]()
        for block in blocks:
            layouts += block.layouts
            columns += block.columns
        _check_columns(dataset, columns)
        found = Found(index, problems, layouts, columns, spill, offsets)
        signatures = [block.signatures for block in blocks if block.signatures is not None]
        related = _relate(dataset, found, np.concatenate(signatures) if signatures else None)
        found.problems.extend(_tell(dataset.path, found, related))
        found.problems.sort(key=lambda problem: problem.line)
        kept = np.setdiff1d(np.arange(len(index)), np.fromiter(related, np.intp))
        _check_share(dataset, found.problems, len(index) - len(related))
        yield Found(index[kept], found.problems, layouts, columns, spill, offsets[kept])


def select(found: Found, dataset: Dataset) -> dict[str, Positions]:
    """The rows of each split, in the order of their prompts' keys, as far as the limits allow."""
    split = splits.assign(found.index["prompt"], dataset.splits)
    order = np.lexsort((found.index["id"], found.index["prompt"]))
    return {
        name: order[split[order] == position][: getattr(dataset.limit, name)] for position, name in enumerate(SPLITS)
    }


def write(path: Path, found: Found, positions: Positions) -> Written:
    """Write these rows to a file, a line of JSON each."""
    digest = hashlib.sha256()
    with path.open("wb", buffering=CHUNK) as file:
        for position in positions.tolist():
            line = found.read(position)
            digest.update(line)
            file.write(line)
    return Written(len(positions), digest.hexdigest())


def _examine(path: Path, examiner: Examiner, spill: IO[bytes], *, fork: bool) -> tuple[list[Examined], list[Problem]]:
    """Every block examined, its rows in ``spill`` and no longer in memory; and all problems."""
    blocks, problems = [], []
    progress = tqdm(desc=f"check {path.name}", unit=" rows", delay=2, mininterval=1, leave=False)
    with progress:
        for examined in parallel.ordered(examiner, readers.blocks(path), fork=fork):
            spill.write(examined.rows)
            problems += examined.problems
            progress.update(len(examined.index) + len(examined.problems))
            blocks.append(Examined(b"", examined.index, examined.signatures, [], examined.layouts, examined.columns))
    spill.flush()
    return blocks, problems


def _relate(dataset: Dataset, found: Found, signatures: duplicates.Hashes | None) -> dict[int, str]:
    """Rows to be set aside because of others: position -> reason."""
    related = _exact_duplicates(found)
    if dataset.one_answer:
        related |= _conflicts(found, related)
    if signatures is not None and dataset.near_duplicates is not None:
        kept = np.setdiff1d(np.arange(len(found.index)), np.fromiter(related, np.intp))
        near = duplicates.find_similar(
            signatures[kept], lambda position: whole_text(found.row(int(kept[position]))), dataset.near_duplicates
        )
        for later, (earlier, similarity) in near.items():
            line = found.index["line"][kept[earlier]]
            related[int(kept[later])] = f"near duplicate: {100 * similarity:.0f}% as line {line}"
    return related


def _exact_duplicates(found: Found) -> dict[int, str]:
    related: dict[int, str] = {}
    for group in _groups(found.index["id"]):
        line = found.index["line"][group[0]]
        related |= dict.fromkeys(group[1:], f"exact duplicate: of line {line}")
    return related


def _conflicts(found: Found, aside: dict[int, str]) -> dict[int, str]:
    """Every row that answers, or prefers, otherwise than another that is asked the same."""
    related = {}
    for group in _groups(found.index["asked"]):
        rows = {position: found.row(position) for position in group if position not in aside}
        for position, other in duplicates.find_contradictions(rows).items():
            line = found.index["line"][other]
            related[position] = f"conflicting answers: line {line} is asked the same and answered otherwise"
    return related


def _groups(keys: npt.NDArray[np.uint64]) -> Iterator[list[int]]:
    """Positions that share a key, where several do; each group in ascending order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else np.empty(0, int)
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield order[start:end].tolist()


def _tell(path: Path, found: Found, related: dict[int, str]) -> list[Problem]:
    """The problems of related rows, with their text, for which the file is read once more."""
    wanted = {int(found.index["line"][position]): reason for position, reason in related.items()}
    if not wanted:
        return []
    return [
        Problem(record.line, wanted[record.line], record.text())
        for record in readers.read(path)
        if isinstance(record, Record) and record.line in wanted
    ]


def _check_columns(dataset: Dataset, columns: Counter[tuple[str, ...]]) -> None:
    present = {name for names in columns for name in names}
    missing = sorted(dataset.sources() - present)
    if present and missing:
        raise DataError(
            f"{dataset.path}: no column {missing[0]!r}; the file has {', '.join(map(repr, sorted(present)))}",
            fix="correct data.<dataset>.columns in params.yaml; null there recognises common layouts",
        )


def _check_share(dataset: Dataset, problems: list[Problem], good: int) -> None:
    total = good + len(problems)
    if not total:
        raise DataError(f"{dataset.path}: the file has no rows", fix=readers.EMPTY)
    bad = [problem for problem in problems if problem.check not in ASIDE]
    if good and len(bad) <= dataset.max_bad_share * total:
        return
    told = bad if bad else problems
    shown = "".join(f"\n  {dataset.path}:{problem.line}: {problem.reason}" for problem in told[:5])
    more = f"\n  ... and {len(told) - 5} more" if len(told) > 5 else ""
    if not good:
        mend = "mend those lines" if bad else "is this file in data.<dataset>.held_out.path, or a copy of one that is?"
        raise DataError(f"{dataset.path}: not one of {total} rows is good:{shown}{more}", fix=mend)
    raise DataError(
        f"{dataset.path}: {len(bad)} of {total} rows are bad, more than max_bad_share "
        f"({dataset.max_bad_share:g}) allows:{shown}{more}",
        fix="mend those lines, or raise data.<dataset>.max_bad_share in params.yaml to set them aside",
    )


def quarantine(path: Path, problems: list[Problem]) -> list[dict[str, Any]]:
    """Quarantine lines: {file, line, reason, raw}; secrets are masked, for the file is passed around."""
    return [
        {"file": str(path), "line": one.line, "reason": one.reason, "raw": text_scan.mask_secrets(one.raw)}
        for one in problems
    ]
