"""The checks of single rows: a block of a file in, ready rows and problems out. They may run in any process."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tunesmith.core.errors import ChatError
from tunesmith.core.ready_rows import PARTS, Conversation, Message, Row, dumps, texts
from tunesmith.data import readers, splits, text_scan
from tunesmith.data.columns.cells import Remark
from tunesmith.data.dataset import Dataset
from tunesmith.data.images import checks, parts
from tunesmith.data.images.reader import Reader
from tunesmith.data.images.settings import Seen, seen
from tunesmith.data.lengths import Lengths
from tunesmith.data.personal import rows as personal
from tunesmith.data.personal.finder import Finder
from tunesmith.data.records import Block, Problem, Record, Remarked, RowError, file_of
from tunesmith.data.repeats import duplicates
from tunesmith.data.repeats.contamination import EvaluationSets
from tunesmith.data.splits import normalise
from tunesmith.data.turns.order import SPEAKERS, count_speakers
from tunesmith.verifiers import catalog

INDEX = np.dtype(
    [
        ("line", np.uint64),
        ("file", np.uint32),  # position among the files of the data set
        ("group", np.uint64),  # key that decides the split: of the row's group, or of its first turn
        ("exact_prompt", np.uint64),  # key of the prompt to the letter, its system message included
        ("id", np.uint64),
        ("bytes", np.uint32),  # length of the ready row, its line feed included
        ("prompt_tokens", np.int32),
        ("tokens", np.int32),  # length of the prompt with the longest completion; 0 without a tokenizer
        ("turns", np.uint16, (len(SPEAKERS),)),  # of each role, with one answer
    ]
)
"""An entry for each ready row, kept in memory while the row itself waits on disk."""
Index = npt.NDArray[np.void]
ANSWERS: tuple[Literal["completion", "chosen", "rejected"], ...] = ("completion", "chosen", "rejected")
TokenCount = tuple[int, int]
"""Tokens of a row's prompt, and of the prompt with its longest completion."""


class GoodRow(NamedTuple):
    """A record and the ready row made of it."""

    record: Record
    row: Row
    group: str | None
    """The value that decides its split, where params name a group."""
    remarks: list[Remark]
    unused: list[str]


@dataclass(frozen=True)
class CheckedBlock:
    """The ready rows and the problems of a block."""

    file: Path
    rows: bytes
    """Ready rows, each a line of JSON."""
    index: Index
    """An INDEX entry for each ready row, which leaves it to the reader of all blocks to number the files."""
    signatures: duplicates.Hashes | None
    """MinHash signature of each ready row, where near duplicates are wanted."""
    problems: list[Problem]
    layouts: Counter[tuple[str, tuple[str, ...]]]
    """Number of records of each layout (its description, its columns)."""
    columns: Counter[tuple[str, ...]]
    """Number of records with each set of columns."""
    unused: Counter[str]
    """Number of good rows without what their records have, for each such column and field of turns."""
    remarks: dict[str, Remarked]
    """What was read otherwise than written, or looks wrong, in good rows."""
    personal: Counter[str]
    """Number of rows with each kind of personal data."""
    images: Seen
    """The images of good rows."""


class RowChecker:
    """Checks blocks of one data set. Without ``lengths``, tokens are not counted."""

    def __init__(
        self,
        dataset: Dataset,
        special_tokens: Iterable[str],
        lengths: Lengths | None,
        held_out: EvaluationSets,
        images: Reader,
    ) -> None:
        self._dataset = dataset
        self._scanner = text_scan.Scanner(special_tokens)
        self._lengths = lengths
        self._held_out = held_out
        self._images = images
        self._finder = Finder(dataset.phone_regions)

    def __call__(self, block: Block) -> CheckedBlock:
        problems: list[Problem] = []
        layouts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        columns: Counter[tuple[str, ...]] = Counter()
        good: list[GoodRow] = []
        for record in readers.parse(block):
            if isinstance(record, Problem):
                problems.append(record)
                continue
            columns[tuple(record.fields)] += 1
            try:
                layout, row, remarks, unused, sources = self._dataset.to_row(record.fields, table=record.table)
                group = self._dataset.group_of(record.fields)
                row, changed = checks.with_images(row, sources, record, self._images, self._lengths)
            except RowError as error:
                problems.append(record.problem(str(error)))
                continue
            layouts[layout.description, layout.columns] += 1
            good.append(GoodRow(record, row, group, [*record.remarks, *remarks, *changed], unused))
        good, found = self._personal(good, problems)
        for check in (self._scan, self._check_written, self._check_verdicts, self._check_held_out):
            good = _set_aside(good, check(good), problems)
        counts, refused = self._count(good)
        refused |= self._check_lengths(counts)
        counts = [count for position, count in enumerate(counts) if position not in refused]
        good = _set_aside(good, refused, problems)
        lines, index = _encode(good, counts)
        signatures = None
        if self._dataset.near_duplicates is not None and good:
            texts = [whole_text(one.row) for one in good]
            signatures = duplicates.minhash_signatures(texts, [checks.salt(one.row) for one in good])
        unused_of_all = Counter(name for one in good for name in one.unused)
        images = sum((seen(one.row) for one in good), Seen())
        return CheckedBlock(
            *(file_of(block), b"".join(lines), index, signatures, problems),
            *(layouts, columns, unused_of_all, _remarked(good), found),
            images=images,
        )

    def _personal(self, good: list[GoodRow], problems: list[Problem]) -> tuple[list[GoodRow], Counter[str]]:
        """Count rows with personal data, and mask them or set them aside where params say so."""
        treatment = self._dataset.personal_data
        found = {} if treatment == "ignore" else personal.find(self._finder, [one.row for one in good])
        kinds = {position: personal.kinds(findings) for position, findings in found.items()}
        if treatment == "mask":
            for position, findings in found.items():
                good[position] = good[position]._replace(row=personal.masked(good[position].row, findings))
        if treatment == "set_aside":
            reasons = {position: f"{personal.CHECK}: {', '.join(names)}" for position, names in kinds.items()}
            good = _set_aside(good, reasons, problems)
        return good, Counter(kind for names in kinds.values() for kind in names)

    def _scan(self, good: list[GoodRow]) -> dict[int, str]:
        parts = [(position, name, text) for position, one in enumerate(good) for name, text in _texts(one.row)]
        findings = self._scanner.scan([(name, text) for _, name, text in parts])
        reasons: dict[int, str] = {}
        for part in sorted(findings):
            reasons.setdefault(parts[part][0], findings[part])
        return reasons

    def _check_written(self, good: list[GoodRow]) -> dict[int, str]:
        """Find the rows that the base's template would not write whole."""
        reasons: dict[int, str] = {}
        if self._lengths is None:
            return reasons
        lost = "the base model's chat template does not write"
        for position, one in enumerate(good):
            turns = _messages(one.row)
            if not self._lengths.tools and any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns):
                reasons[position] = f"tool turn: {lost} it, so it would be lost"
            elif not self._lengths.definitions and "tools" in one.row:
                reasons[position] = f"tools: {lost} which tools there are, so they would be lost"
            elif not self._lengths.system and one.row["prompt"][0]["role"] == "system":
                reasons[position] = f"system message: {lost} it, so it would be lost"
        return reasons

    def _check_verdicts(self, good: list[GoodRow]) -> dict[int, str]:
        return _reasons(catalog.check_own_answer(one.row) for one in good)

    def _check_held_out(self, good: list[GoodRow]) -> dict[int, str]:
        if not self._held_out:
            return {}
        return _reasons(
            self._held_out.match(splits.prompt_key(one.row["prompt"]), whole_text(one.row), parts.images(one.row))
            for one in good
        )

    def _count(self, good: list[GoodRow]) -> tuple[list[TokenCount], dict[int, str]]:
        """Count the tokens of each row; also return why the chat template refuses a row, by position."""
        if self._lengths is None:
            return [(0, 0)] * len(good), {}
        try:
            return self._count_together([one.row for one in good], self._lengths), {}
        except ChatError:
            return self._count_one_by_one(good, self._lengths)

    def _count_together(self, rows: list[Row], lengths: Lengths) -> list[TokenCount]:
        conversations = [
            (position, Conversation(parts.texts_alone(row["prompt"]), completion, row.get("tools")))
            for position, row in enumerate(rows)
            for completion in [row[name] for name in ANSWERS if name in row] or [[]]
        ]
        prompts, completions = lengths.count([conversation for _, conversation in conversations])
        shown = checks.tokens(rows, lengths)
        counts = [(0, 0)] * len(rows)
        for (position, _), text, completion in zip(conversations, prompts, completions, strict=True):
            prompt = text + shown[position]
            counts[position] = prompt, max(counts[position][1], prompt + completion)
        return counts

    def _count_one_by_one(self, good: list[GoodRow], lengths: Lengths) -> tuple[list[TokenCount], dict[int, str]]:
        counts, refused = [(0, 0)] * len(good), {}
        for position, one in enumerate(good):
            try:
                [counts[position]] = self._count_together([one.row], lengths)
            except ChatError as error:
                refused[position] = f"refused by the chat template: {error.reason}"
        return counts, refused

    def _check_lengths(self, counts: list[TokenCount]) -> dict[int, str]:
        if self._lengths is None:
            return {}
        context = self._lengths.context
        longest = min(self._dataset.max_length or context, context)
        reasons = {}
        for position, (prompt, whole) in enumerate(counts):
            if prompt >= context:
                reasons[position] = f"prompt fills the context: {prompt} tokens, and the model takes {context}"
            elif whole > longest and prompt >= longest:
                reasons[position] = f"completion lost: the prompt's {prompt} tokens leave no room in {longest}"
            elif whole > longest:
                cut, completion = whole - longest, whole - prompt
                reasons[position] = f"completion cut: its last {cut} of {completion} tokens are beyond {longest}"
        return reasons


def whole_text(row: Row) -> str:
    """Return the normalised text of all turns of a row."""
    return normalise("\n".join(text for message in _messages(row) for text in texts(message)))


def _messages(row: Row) -> Iterator[Message]:
    for name in PARTS:
        yield from row.get(name, ())


def _texts(row: Row) -> Iterator[tuple[str, str]]:
    for name in PARTS:
        for message in row.get(name, ()):
            for text in texts(message):
                yield name, text
    if "tools" in row:
        yield "tools", dumps(row["tools"]).decode()
    if "reference" in row:
        reference = row["reference"]
        yield "reference", reference if isinstance(reference, str) else dumps(reference).decode()


def _reasons(reasons: Iterable[str | None]) -> dict[int, str]:
    """Number the reasons by their positions, and leave out None."""
    return {position: reason for position, reason in enumerate(reasons) if reason is not None}


def _remarked(good: list[GoodRow]) -> dict[str, Remarked]:
    found: dict[str, Remarked] = {}
    for record, _, _, remarks, _ in good:
        for name, example in dict(remarks).items():
            one = Remarked(1, record.file, record.line, example)
            found[name] = found[name] + one if name in found else one
    return found


def _set_aside(good: list[GoodRow], reasons: dict[int, str], problems: list[Problem]) -> list[GoodRow]:
    """Turn the rows at the positions in ``reasons`` into problems, and return the others."""
    if not reasons:
        return good
    problems += [good[position].record.problem(reason) for position, reason in reasons.items()]
    return [row for position, row in enumerate(good) if position not in reasons]


def _encode(good: list[GoodRow], counts: list[TokenCount]) -> tuple[list[bytes], Index]:
    """Encode ready rows as JSON lines, each with an id made from its content, and their index."""
    lines, entries = [], []
    for (record, row, group, _, _), count in zip(good, counts, strict=True):
        body = dumps(row)
        digest = hashlib.sha256(body).digest()[:8]
        lines.append(b'{"id":"%s",%s\n' % (digest.hex().encode(), body[1:]))
        key = splits.group_key(row["prompt"], group)
        asked = [row["prompt"], row["tools"]] if "tools" in row else row["prompt"]
        exact = int.from_bytes(hashlib.sha256(dumps(asked)).digest()[:8])
        turns = [*row["prompt"], *next((row[name] for name in ANSWERS if name in row), [])]
        speakers = count_speakers(turns)
        entries.append((record.line, 0, key, exact, int.from_bytes(digest), len(lines[-1]), *count, speakers))
    return lines, np.array(entries, INDEX)
