"""Contamination: rows that are also in an evaluation set, or nearly in a held-out split of their own data set.

Neither may train the model that these judge.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunesmith.core.errors import DataError
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import ImagePart, Message, content_text
from tunesmith.data import layouts, readers, splits
from tunesmith.data.columns import cells, prompts
from tunesmith.data.images import markers, parts
from tunesmith.data.images.reader import Reader
from tunesmith.data.images.settings import Images
from tunesmith.data.records import Fields, Record, RowError
from tunesmith.data.splits import Share, normalise

GRAM = 8
"""Words of an n-gram."""
Gram = tuple[str, ...]
COMMON = 5
"""An 8-gram of more evaluation prompts than this, or a run of more groups, belongs to a shared instruction and is not
compared."""
RUN = 32
"""Bytes of a run, about six words."""
MIN_RUNS = 8
"""Fewest runs by which a row counts as a near copy; of fewer, most may be a phrase that others use too."""
MIX = np.uint64(0x9E3779B97F4A7C15)
FILLED_BITS = 24
FILLED_SHIFT = np.uint64(64 - FILLED_BITS)
SPACE = ord(" ")
Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.intp]
Pairs = tuple[Positions, Positions]


class HeldOut(Section):
    path: Path = Path("data/held_out")
    """A file of evaluation rows, or a folder of such files, in data/held_out; a data set is not compared with its own
    files."""
    overlap: Share = 0.7
    """Share of the 8-grams of words of an evaluation prompt from which a row counts as that prompt; 0.7 in PaLM
    (Chowdhery et al. 2022, section 8)."""


class EvaluationSets:
    """Evaluation prompts that rows are compared with."""

    def __init__(self, held_out: HeldOut, own: Collection[Path], images: Images | None = None) -> None:
        """Read every file at ``held_out.path`` except ``own``. Raises DataError for a file that cannot be read.

        images: the limits of their images.
        """
        folder = held_out.path if held_out.path.is_dir() else held_out.path.parent
        self._reader = Reader(images or Images(), folder, watched=True)
        self._images: dict[str, str] = {}
        self._overlap = held_out.overlap
        self._exact: dict[int, str] = {}
        self._grams: dict[Gram, list[int]] = {}
        self._prompts: list[str] = []
        themselves = {file.resolve() for file in own}
        for file in _files(held_out.path):
            if file.resolve() not in themselves:
                self._add(file)
        self._grams = {gram: prompts for gram, prompts in self._grams.items() if len(prompts) <= COMMON}
        self._counts = Counter(prompt for prompts in self._grams.values() for prompt in prompts)

    def __len__(self) -> int:
        return len(self._exact)

    def match(self, key: int, text: str, images: Sequence[ImagePart] = ()) -> str | None:
        """Return why a row, by its prompt key, normalised text and images, counts as an evaluation row; None if it
        does not. A text about other images is another text, but not one that stands alone in the evaluation set.

        The reason is the name of the check, a colon, and the file and line of the evaluation row.
        """
        if key in self._exact:
            return f"in an evaluation set: the prompt of {self._exact[key]}"
        if owners := [self._images[part["image"]] for part in images if part["image"] in self._images]:
            return f"in an evaluation set: an image of {owners[0]}"
        grams = set(_grams(text))
        if self._grams.keys().isdisjoint(grams):
            return None
        hits = Counter(prompt for gram in grams for prompt in self._grams.get(gram, ()))
        prompt, shared = max(hits.items(), key=lambda item: item[1] / self._counts[item[0]])
        where, count = self._prompts[prompt], self._counts[prompt]
        if shared < self._overlap * count:
            return None
        return f"overlaps an evaluation set: {shared} of {count} 8-grams of {where}"

    def _add(self, file: Path) -> None:
        before = len(self)
        for record in readers.read(file):
            prompt = self._prompt(record) if isinstance(record, Record) else None
            if prompt is None:
                continue
            key, where = splits.prompt_key(prompt), f"{file}:{record.line}"
            if key in self._exact:
                continue
            self._exact[key] = where
            if shown := parts.images({"prompt": prompt}):
                self._images |= {part["image"]: where for part in shown if part["image"] not in self._images}
                continue  # its text alone asks nothing
            for gram in set(_grams(normalise(" ".join(map(content_text, prompt))))):
                self._grams.setdefault(gram, []).append(len(self._prompts))
            self._prompts.append(where)
        if len(self) == before:
            raise DataError(
                f"{file}: no evaluation prompt was recognised, so no row can be compared with this file",
                fix="give it a column `prompt` or `question`, or take it out of the folder of held-out files",
            )

    def _prompt(self, record: Record) -> list[Message] | None:
        """Return the prompt of an evaluation row. Raises DataError where an image of it cannot be compared."""
        try:
            fields, _ = cells.read(record.fields)
            fields, sources, _, _ = markers.take(fields)
        except RowError:
            return None
        prompt = _prompt(fields)
        if prompt is None or not sources:
            return prompt
        try:
            row, _ = markers.place({"prompt": prompt}, len(sources))
            found = self._reader.images(sources, record.file, record.line)
        except RowError as error:
            fix = "correct or remove that row, or no row can be compared with it"
            raise DataError(f"{record.file}:{record.line}: {error}", fix=fix) from None
        return parts.with_images(row, [one.part for one in found])["prompt"]


def _prompt(fields: Fields) -> list[Message] | None:
    try:
        layout = layouts.recognise(fields)
        if layout is None:
            return None
        if layout.kind is not None:
            return [message for message in layout.to_row(fields)["prompt"] if message["role"] != "system"]
        return prompts.column_messages(fields, layout.columns[0], "user") if layout.columns else None
    except RowError:
        return None


class NearCopy(NamedTuple):
    """The held-out prompt that a row repeats."""

    prompt: int
    """Its position among the held-out prompts."""
    shared: int
    """The number of its runs that the row has too."""
    runs: int
    """The number of its runs, but for those of a shared instruction."""


def near_copies(
    prompts: Sequence[bytes], groups: Hashes, training: Iterable[tuple[Sequence[bytes], Hashes]], overlap: float
) -> dict[int, NearCopy]:
    """Map each training row that has at least this share of the runs of a held-out prompt to that prompt.

    A run is RUN bytes from the beginning of a word on, whatever their case; a copy may have been edited between runs.

    prompts: the messages of each held-out prompt as JSON. groups: the key of its group. training: rows as JSON with the
    keys of their groups, in blocks; those of a group follow one another, and no prompt is of the same group. A row's
    key in the result is its position among all of them.
    """
    owners, hashes = _runs([prompt.removesuffix(b'"}]') for prompt in prompts])
    table, numbers = np.unique(hashes, return_inverse=True)
    if not len(table):
        return {}
    _, numbered = np.unique(groups, return_inverse=True)
    counts = np.bincount(_distinct(numbers, numbered[owners])[0], minlength=len(table))
    rows, hits = _shared_runs(table, counts, training)
    copies = {}
    sizes, shared = _count_shared(rows, hits, owners, numbers, counts)
    for row, by_prompt in shared.items():
        prompt, count = max(by_prompt.items(), key=lambda item: (item[1] / sizes[item[0]], -item[0]))
        if sizes[prompt] >= MIN_RUNS and count >= overlap * sizes[prompt]:
            copies[row] = NearCopy(prompt, count, int(sizes[prompt]))
    return copies


def _shared_runs(table: Hashes, counts: Positions, training: Iterable[tuple[Sequence[bytes], Hashes]]) -> Pairs:
    """Return the runs of ``table`` that training rows have: positions of rows, and numbers of runs in the table.

    counts: the number of groups that have each run; those of the training rows are added. Runs of more than COMMON
    groups are left out.
    """
    filled = np.zeros(2**FILLED_BITS, bool)  # tells nearly all other runs, in less time than a search
    filled[table >> FILLED_SHIFT] = True
    latest, first = np.zeros(len(table), np.uint64), 0
    hits = [np.empty((2, 0), np.intp)]
    for texts, groups in training:
        rows, hashes = _runs(texts)
        likely = filled[hashes >> FILLED_SHIFT]
        rows, hashes = rows[likely], hashes[likely]
        numbers = np.searchsorted(table[:-1], hashes)
        present = table[numbers] == hashes
        rows, numbers = _distinct(rows[present], numbers[present])
        keys, numbered = np.unique(groups[rows], return_inverse=True)
        run, group = _distinct(numbers, numbered)
        counts += np.bincount(run[latest[run] != keys[group]], minlength=len(table))
        latest[run] = keys[group]  # of several groups, the last, which alone may go on in the next block
        hits.append(np.stack([rows + first, numbers])[:, counts[numbers] <= COMMON])
        first += len(texts)
    found = np.concatenate(hits, axis=1)
    rows, numbers = found[:, counts[found[1]] <= COMMON]
    return rows, numbers


def _count_shared(
    rows: Positions, hits: Positions, owners: Positions, numbers: Positions, counts: Positions
) -> tuple[Positions, dict[int, Counter[int]]]:
    """Count the runs of each prompt, and those that each row shares with it."""
    rare = counts[numbers] <= COMMON
    numbers, owners = _distinct(numbers[rare], owners[rare])
    prompts: dict[int, list[int]] = defaultdict(list)
    wanted = np.isin(numbers, hits)
    for number, prompt in zip(numbers[wanted].tolist(), owners[wanted].tolist(), strict=True):
        prompts[number].append(prompt)
    shared: dict[int, Counter[int]] = defaultdict(Counter)
    for row, number in zip(rows.tolist(), hits.tolist(), strict=True):
        shared[row].update(prompts[number])
    return np.bincount(owners), shared


def _runs(texts: Sequence[bytes]) -> tuple[Positions, Hashes]:
    """Return every run of texts in JSON: the position of the text, and a hash."""
    joined = b"".join(texts).lower().replace(b'"content":"', b'"content": ').replace(b"\\n", b"  ") + bytes(RUN)
    data = np.frombuffer(joined, np.uint8)
    ends = np.cumsum([len(text) for text in texts])
    starts = np.flatnonzero((data[: -RUN - 1] == SPACE) & (data[1:-RUN] != SPACE)) + 1
    owners = np.searchsorted(ends, starts, side="right")
    whole = starts + RUN <= ends[owners]
    owners, starts = owners[whole], starts[whole]
    eight = np.ndarray((len(data) - 7,), "<u8", joined, 0, (1,))
    hashes = np.zeros(len(starts), np.uint64)
    for lane in range(0, RUN, 8):
        hashes = (hashes ^ eight[starts + lane]) * MIX
        hashes ^= hashes >> np.uint64(29)
    return owners, hashes * MIX


def _distinct(first: Positions, second: Positions) -> Pairs:
    """Return the distinct pairs of two numbers, sorted."""
    width = int(second.max(initial=0)) + 1
    pairs = np.sort(first * width + second)
    pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
    return pairs // width, pairs % width


def _grams(text: str) -> Iterator[Gram]:
    words = text.split()
    return zip(*(words[start:] for start in range(GRAM)), strict=False)


def _files(path: Path) -> tuple[Path, ...]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", fix="correct data.<dataset>.held_out.path in params.yaml")
    return readers.below(path).paths if path.is_dir() else (path,)
