"""Turn raw files into ready rows: check every row, set bad rows aside, compare rows with each other, and split.

Blocks are checked on all CPUs (`tunesmith/data/row_checks.py`) and their results are collected here. Ready rows wait in
a file; memory holds only their index, 56 bytes a row and 192 more with near-duplicate signatures.
"""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import jiter
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row, dumps
from tunesmith.data import parallel, readers, splits
from tunesmith.data.dataset import Dataset, Limit
from tunesmith.data.images import leaks, parts
from tunesmith.data.images.blocks import spread
from tunesmith.data.images.reader import Reader
from tunesmith.data.images.settings import Seen, has_image
from tunesmith.data.lengths import Lengths
from tunesmith.data.personal import rows as personal
from tunesmith.data.readers import Files
from tunesmith.data.records import Place, Problem, Record, Remarked, Repeat, check_columns, check_share
from tunesmith.data.repeats import contamination, duplicates
from tunesmith.data.repeats.contamination import EvaluationSets
from tunesmith.data.row_checks import INDEX, CheckedBlock, Index, RowChecker, whole_text
from tunesmith.data.splits import SPLITS

NEAR_COPY = "near copy of a held-out row"
NOT_BAD = ("exact duplicate", "near duplicate", "in an evaluation set", "overlaps an evaluation set", "neutral rating",
           "equal ratings", "marked bad", NEAR_COPY, personal.CHECK)  # fmt: skip
"""Checks that set good rows aside, or rows that decide nothing."""
COPY_BLOCK = 1000
"""Rows that are compared with held-out prompts at once."""
WRITE_BUFFER = 2**22
"""Bytes."""
MOST_REPEATED = 10
"""Number of rows whose text is kept to be shown beside the rows that repeat them."""

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class CheckedRows:
    """The rows of a data set after all checks: ready rows, by position, and problems."""

    files: Files
    index: Index
    """An entry for each ready row, in the order of the files."""
    problems: list[Problem]
    """Rows that were set aside, in the order of the files."""
    layouts: Counter[tuple[str, tuple[str, ...]]]
    """Number of records of each layout (its description, its columns)."""
    columns: Counter[tuple[str, ...]]
    """Number of records with each set of columns."""
    unused: Counter[str]
    """Number of ready rows without what their records have, for each such column and field of turns."""
    remarks: dict[str, Remarked]
    """What was read otherwise than written, or looks wrong, in ready rows."""
    personal: Counter[str]
    """Number of rows with each kind of personal data, whether they stay or not."""
    repeated: dict[Place, str]
    """Text of the rows that most others repeat, those first that more do."""
    images: Seen
    """The images of rows that passed their own checks."""
    spill: IO[bytes]
    """File of the ready rows, each a line of JSON."""
    offsets: npt.NDArray[np.uint64]
    """Offset of each ready row in ``spill``, in bytes."""

    @property
    def total(self) -> int:
        """Number of rows in the files, good and bad."""
        return len(self.index) + len(self.problems)

    def source(self, position: int) -> Place:
        """Return the file and the line that a ready row was made of."""
        return self.files.paths[self.index["file"][position]], int(self.index["line"][position])

    def place(self, position: int) -> str:
        """Return the line that a ready row was made of, with its file where there are several."""
        return self.files.place(*self.source(position))

    def read(self, position: int) -> bytes:
        """Read a ready row as a line of JSON."""
        return os.pread(self.spill.fileno(), int(self.index["bytes"][position]), int(self.offsets[position]))

    def row(self, position: int) -> Row:
        """Read a ready row."""
        row: Row = jiter.from_json(self.read(position))
        return row


@dataclass(frozen=True)
class SplitFile:
    """A file of ready rows that was written for a split."""

    rows: int
    digest: str
    """SHA-256 of the file, in hex."""


@contextmanager
def check_files(
    dataset: Dataset,
    files: Files,
    *,
    special_tokens: Iterable[str],
    lengths: Lengths | None,
    scratch: Path | None = None,
    store: Path | None = None,
    fork: bool = False,
) -> Iterator[CheckedRows]:
    """Read and check every row of a data set's files; the result can be read while the context is open.

    scratch: a folder with room for the ready rows. store: a folder, which exists, for the images of rows, of those too
    that comparisons set aside; None stores none. fork: as in `parallel.ordered`.

    Raises DataError where a file cannot be read, a column is in no row, no row is good, or too many are bad.
    """
    held_out = EvaluationSets(dataset.held_out, files.paths, dataset.images)
    reader = Reader(dataset.images, files.folder, watched=dataset.path.is_dir(), store=store)
    checker = RowChecker(dataset, special_tokens, lengths, held_out, reader)
    preload = [] if lengths is None else [lengths.count.__module__]
    with tempfile.TemporaryFile(dir=scratch) as spill:
        results = parallel.ordered(checker, spread(files.blocks()), preload=preload, fork=fork)
        blocks, problems = _collect(results, files, spill)
        index = np.concatenate([np.empty(0, INDEX), *(block.index for block in blocks)])
        offsets = np.zeros(len(index), np.uint64)
        np.cumsum(index["bytes"][:-1], out=offsets[1:])
        layouts, columns = Counter[tuple[str, tuple[str, ...]]](), Counter[tuple[str, ...]]()
        unused, remarks, people = Counter[str](), dict[str, Remarked](), Counter[str]()
        for block in blocks:
            layouts += block.layouts
            columns += block.columns
            unused += block.unused
            people += block.personal
            for name, found in block.remarks.items():
                remarks[name] = remarks[name] + found if name in remarks else found
        check_columns(files.name, columns, dataset.named_columns())
        images = sum((block.images for block in blocks), Seen())
        if images.images:
            files = replace(files, ignored=tuple(path for path in files.ignored if not has_image(path)))
        rows = CheckedRows(
            files, index, problems, layouts, columns, unused, remarks, people, {}, images, spill, offsets
        )
        signatures = [block.signatures for block in blocks if block.signatures is not None]
        reasons = _compare(dataset, rows, np.concatenate(signatures) if signatures else None)
        kept = _without(index, reasons)
        unique = replace(rows, index=index[kept], offsets=offsets[kept])
        for position, (reason, of) in _near_copies(dataset, unique).items():
            reasons[int(kept[position])] = Repeat(reason, int(kept[of]))
        repeats, repeated = _with_text(rows, reasons)
        problems += repeats
        order = _numbers(files)
        problems.sort(key=lambda problem: (order[problem.file], problem.line))
        kept = _without(index, reasons)
        if not rows.total:
            raise DataError(f"{files.name}: no rows", fix=readers.EMPTY)
        share, system = dataset.max_bad_share, bool(dataset.system)
        check_share(files.name, problems, len(kept), share, NOT_BAD, system=system)
        yield replace(rows, index=index[kept], problems=problems, repeated=repeated, offsets=offsets[kept])


def select(rows: CheckedRows, dataset: Dataset) -> dict[str, Positions]:
    """Return the positions of each split's rows, ordered by the keys of their groups and cut at the split's limit."""
    split = splits.assign(rows.index["group"], dataset.splits)
    order = np.lexsort((rows.index["id"], rows.index["group"]))
    return {
        name: order[split[order] == position][: getattr(dataset.limit, name)] for position, name in enumerate(SPLITS)
    }


def write(path: Path, rows: CheckedRows, positions: Positions) -> SplitFile:
    """Write the rows at ``positions`` to a file, a line of JSON each."""
    digest = hashlib.sha256()
    with path.open("wb", buffering=WRITE_BUFFER) as file:
        for position in positions.tolist():
            line = rows.read(position)
            digest.update(line)
            file.write(line)
    return SplitFile(len(positions), digest.hexdigest())


def _collect(
    results: Iterator[CheckedBlock], files: Files, spill: IO[bytes]
) -> tuple[list[CheckedBlock], list[Problem]]:
    """Write the ready rows of all blocks to ``spill``; return the blocks without them, and all problems."""
    blocks, problems, numbers = [], [], _numbers(files)
    progress = tqdm(desc=f"check {files.name}", unit=" rows", delay=2, mininterval=1, leave=False)
    with progress:
        for block in results:
            spill.write(block.rows)
            block.index["file"] = numbers[block.file]
            problems += block.problems
            progress.update(len(block.index) + len(block.problems))
            blocks.append(replace(block, rows=b"", problems=[]))
    spill.flush()
    return blocks, problems


def _compare(dataset: Dataset, rows: CheckedRows, signatures: duplicates.Hashes | None) -> dict[int, Repeat]:
    """Compare rows with each other; map the position of each row to set aside to the reason."""
    reasons: dict[int, Repeat] = {}
    for first, *others in duplicates.same_keys(rows.index["id"]):
        reasons |= dict.fromkeys(others, Repeat(f"exact duplicate: of {rows.place(first)}", first))
    if dataset.one_answer:
        for position, other in duplicates.contradictions(rows.index["exact_prompt"], rows.row, reasons).items():
            reasons[position] = Repeat(f"conflicting answers: {rows.place(other)} has the same prompt and disagrees")
    if signatures is not None and dataset.near_duplicates is not None:
        kept = _without(rows.index, reasons)
        near = duplicates.find_near_duplicates(
            signatures[kept], lambda position: whole_text(rows.row(int(kept[position]))), dataset.near_duplicates
        )
        for later, (earlier, similarity) in near.items():
            of = int(kept[earlier])
            reason = f"near duplicate: {100 * similarity:.0f}% as {rows.place(of)}"
            reasons[int(kept[later])] = Repeat(reason, of)
    return reasons


def _near_copies(dataset: Dataset, rows: CheckedRows) -> dict[int, tuple[str, int]]:
    """Find the training rows that nearly repeat the prompt of a validation or test row, or show an image of it.

    A prompt with images is compared by these: its text alone may be asked about many.
    """
    selected = select(rows, dataset)
    held_out = np.concatenate([selected["validation"], selected["test"]])
    if dataset.near_copies is None or not len(held_out):
        return {}
    training = select(rows, dataset.model_copy(update={"limit": Limit()}))["train"]
    groups = rows.index["group"]
    blocks = (
        ([rows.read(position) for position in block.tolist()], groups[block])
        for block in np.array_split(training, len(training) // COPY_BLOCK + 1)
    )
    prompts = []
    for row in map(rows.row, held_out.tolist()):
        turns = [message for message in row["prompt"] if message["role"] != "system"]
        prompts.append(b"" if parts.images(row) else dumps(turns))
    copies = contamination.near_copies(prompts, groups[held_out], blocks, dataset.near_copies)
    reasons = {
        int(training[row]): (
            f"{NEAR_COPY}: it has {copy.shared} of {copy.runs} runs of {rows.place(held_out[copy.prompt])}'s prompt",
            int(held_out[copy.prompt]),
        )
        for row, copy in copies.items()
    }
    if rows.images.images:
        shared = leaks.find(list(_shown(rows, held_out)), _shown(rows, training))
        for at, other in shared.items():
            reason = f"{NEAR_COPY}: it shows an image of {rows.place(held_out[other])}"
            reasons[int(training[at])] = reason, int(held_out[other])
    return reasons


def _shown(rows: CheckedRows, positions: Positions) -> Iterator[leaks.Shown]:
    for position in positions.tolist():
        yield [part["image"] for part in parts.images(rows.row(position))], int(rows.index["group"][position])


def _without(index: Index, aside: dict[int, Repeat]) -> Positions:
    """Return the positions of the rows that are not set aside."""
    return np.setdiff1d(np.arange(len(index)), np.fromiter(aside, np.intp))


def _numbers(files: Files) -> dict[Path, int]:
    return {file: number for number, file in enumerate(files.paths)}


def _with_text(rows: CheckedRows, reasons: dict[int, Repeat]) -> tuple[list[Problem], dict[Place, str]]:
    """Make the problems of rows that the comparison set aside, and find the text of those that most of them repeat.

    Text is read from the files once more.
    """
    copies = Counter(repeat.of for repeat in reasons.values() if repeat.of is not None)
    repeated = {rows.source(position): "" for position, _ in copies.most_common(MOST_REPEATED)}
    by_place = {rows.source(position): repeat for position, repeat in reasons.items()}
    problems = []
    for file in dict.fromkeys(file for file, _ in (*by_place, *repeated)):
        for record in readers.read(file):
            place = record.file, record.line
            if not isinstance(record, Record):
                continue
            if place in repeated:
                repeated[place] = record.text()
            if (repeat := by_place.get(place)) is not None:
                of = None if repeat.of is None else rows.source(repeat.of)
                problems.append(record.problem(repeat.reason, of))
    return problems, repeated
