"""The checks that need no other row: a block of a file in, ready rows and problems out. It may run in any process."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunesmith.core.errors import ChatError
from tunesmith.core.ready_rows import Row, dumps
from tunesmith.data import duplicates, readers, splits, text_scan
from tunesmith.data.chat_formats import Message, RowError
from tunesmith.data.contamination import EvaluationSets
from tunesmith.data.dataset import Dataset
from tunesmith.data.records import Block, Problem, Record
from tunesmith.data.splits import normal
from tunesmith.verifiers import catalog
from tunesmith.verifiers.catalog import VERIFIERS

INDEX = np.dtype(
    [
        ("line", np.uint64),
        ("prompt", np.uint64),  # key of the prompt; it decides the split
        ("asked", np.uint64),  # of the prompt to the letter, its system message included
        ("id", np.uint64),
        ("bytes", np.uint32),  # of the ready row, its line feed included
        ("prompt_tokens", np.int32),
        ("tokens", np.int32),  # of the prompt and the longest completion; 0 without a tokenizer
    ]
)
Index = npt.NDArray[np.void]
ANSWERS = ("completion", "chosen", "rejected")
Conversation = tuple[list[Message], list[Message]]
Count = tuple[int, int]
"""Tokens of a row's prompt, and of the prompt with its longest completion."""


@dataclass(frozen=True)
class Lengths:
    """How long rows are for the base model.

    count: conversations (prompt, completion) -> tokens of the prompts, tokens of the completions. context: the most
    that the model takes. tools: whether its template writes tool turns.
    """

    count: Callable[[Sequence[Conversation]], tuple[list[int], list[int]]]
    context: int
    tools: bool


class Good(NamedTuple):
    record: Record
    row: Row


@dataclass(frozen=True)
class Examined:
    """rows: a line of JSON each. index: one INDEX a row. signatures: near-duplicate signatures a row, where asked for.

    layouts, columns: how many records of each layout (what it is, its columns), and with each set of columns.
    """

    rows: bytes
    index: Index
    signatures: duplicates.Hashes | None
    problems: list[Problem]
    layouts: Counter[tuple[str, tuple[str, ...]]]
    columns: Counter[tuple[str, ...]]


class Examiner:
    """Examines blocks of one data set. lengths: None leaves tokens uncounted."""

    def __init__(
        self, dataset: Dataset, special_tokens: Iterable[str], lengths: Lengths | None, held_out: EvaluationSets
    ) -> None:
        self._dataset = dataset
        self._scanner = text_scan.Scanner(special_tokens)
        self._lengths = lengths
        self._held_out = held_out

    def __call__(self, block: Block) -> Examined:
        problems: list[Problem] = []
        layouts: Counter[tuple[str, tuple[str, ...]]] = Counter()
        columns: Counter[tuple[str, ...]] = Counter()
        good: list[Good] = []
        for record in readers.parse(block):
            if isinstance(record, Problem):
                problems.append(record)
                continue
            columns[tuple(record.fields)] += 1
            try:
                layout, row = self._dataset.to_row(record.fields)
            except RowError as why:
                problems.append(_problem(record, str(why)))
                continue
            layouts[layout.what, layout.columns] += 1
            good.append(Good(record, row))
        for check in (self._scan, self._check_tools, self._check_verdicts, self._check_held_out):
            good = _without(good, check(good), problems)
        counts, refused = self._count(good)
        refused |= self._check_lengths(counts)
        counts = [count for position, count in enumerate(counts) if position not in refused]
        good = _without(good, refused, problems)
        lines, index = _encode(good, counts)
        signatures = None
        if self._dataset.near_duplicates is not None and good:
            signatures = duplicates.signatures([whole_text(row) for _, row in good])
        return Examined(b"".join(lines), index, signatures, problems, layouts, columns)

    def _scan(self, good: list[Good]) -> dict[int, str]:
        parts = [(position, name, text) for position, (_, row) in enumerate(good) for name, text in _texts(row)]
        found = self._scanner.scan([(name, text) for _, name, text in parts])
        reasons: dict[int, str] = {}
        for part in sorted(found):
            reasons.setdefault(parts[part][0], found[part])
        return reasons

    def _check_tools(self, good: list[Good]) -> dict[int, str]:
        if self._lengths is None or self._lengths.tools:
            return {}
        reason = "tool turn: the base model's chat template does not write it, so it would be lost"
        return {position: reason for position, (_, row) in enumerate(good) if any(map(_is_tool, _messages(row)))}

    def _check_verdicts(self, good: list[Good]) -> dict[int, str]:
        found = {position: fault(row) for position, (_, row) in enumerate(good)}
        return {position: why for position, why in found.items() if why is not None}

    def _check_held_out(self, good: list[Good]) -> dict[int, str]:
        if not self._held_out:
            return {}
        found = {
            position: self._held_out.find(splits.prompt_key(row["prompt"]), whole_text(row))
            for position, (_, row) in enumerate(good)
        }
        return {position: why for position, why in found.items() if why is not None}

    def _count(self, good: list[Good]) -> tuple[list[Count], dict[int, str]]:
        """Tokens of each row; and the rows that the chat template refuses."""
        if self._lengths is None:
            return [(0, 0)] * len(good), {}
        try:
            return self._count_together([row for _, row in good], self._lengths), {}
        except ChatError:
            return self._count_one_by_one(good, self._lengths)

    def _count_together(self, rows: list[Row], lengths: Lengths) -> list[Count]:
        conversations = [
            (position, (row["prompt"], completion))
            for position, row in enumerate(rows)
            for completion in [row[name] for name in ANSWERS if name in row] or [[]]
        ]
        prompts, completions = lengths.count([conversation for _, conversation in conversations])
        counts = [(0, 0)] * len(rows)
        for (position, _), prompt, completion in zip(conversations, prompts, completions, strict=True):
            counts[position] = prompt, max(counts[position][1], prompt + completion)
        return counts

    def _count_one_by_one(self, good: list[Good], lengths: Lengths) -> tuple[list[Count], dict[int, str]]:
        counts, refused = [(0, 0)] * len(good), {}
        for position, (_, row) in enumerate(good):
            try:
                [counts[position]] = self._count_together([row], lengths)
            except ChatError as error:
                refused[position] = f"refused by the chat template: {error.reason}"
        return counts, refused

    def _check_lengths(self, counts: list[Count]) -> dict[int, str]:
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
                lost, said = whole - longest, whole - prompt
                reasons[position] = f"completion cut: its last {lost} of {said} tokens are beyond {longest}"
        return reasons


def whole_text(row: Row) -> str:
    """All that a row says, in normal form."""
    return normal("\n".join(message["content"] for message in _messages(row)))


def _messages(row: Row) -> Iterator[Message]:
    yield from row["prompt"]
    for name in ANSWERS:
        yield from row.get(name, ())


def _is_tool(message: Message) -> bool:
    return message["role"] == "tool" or "tool_calls" in message


def _texts(row: Row) -> Iterator[tuple[str, str]]:
    for name in ("prompt", *ANSWERS):
        for message in row.get(name, ()):
            yield name, message["content"]
            if "tool_calls" in message:
                yield name, dumps(message["tool_calls"]).decode()
    if "reference" in row:  # an object is read as its JSON
        right = row["reference"]
        yield "reference", right if isinstance(right, str) else dumps(right).decode()


def _without(good: list[Good], reasons: dict[int, str], problems: list[Problem]) -> list[Good]:
    """``good`` but the positions in ``reasons``, which become problems."""
    if not reasons:
        return good
    problems += [_problem(good[position].record, reason) for position, reason in reasons.items()]
    return [one for position, one in enumerate(good) if position not in reasons]


def _problem(record: Record, reason: str) -> Problem:
    return Problem(record.line, reason, record.text())


def _encode(good: list[Good], counts: list[Count]) -> tuple[list[bytes], Index]:
    """Ready rows as JSON lines, each with an id made from its content, and their index."""
    lines, entries = [], []
    for (record, row), (prompt_tokens, tokens) in zip(good, counts, strict=True):
        body = dumps(row)
        digest = hashlib.sha256(body).digest()[:8]
        lines.append(b'{"id":"%s",%s\n' % (digest.hex().encode(), body[1:]))
        prompt = splits.prompt_key(row["prompt"])
        asked = int.from_bytes(hashlib.sha256(dumps(row["prompt"])).digest()[:8])
        entries.append((record.line, prompt, asked, int.from_bytes(digest), len(lines[-1]), prompt_tokens, tokens))
    return lines, np.array(entries, INDEX)


def fault(row: Row) -> str | None:
    """What is wrong; None where nothing is, or the row names no verifier that is here.

    A row may bring a worked solution and its answer apart; then they must agree.
    """
    name = row.get("verifier", "")
    if name not in VERIFIERS:
        return None
    lacking = catalog.lacking(name, row)
    if lacking:
        return f"cannot be graded: {name} needs {' and '.join(map(repr, lacking))}"
    gold = catalog.gold(name, row)
    if gold is None:
        return None
    verdict = catalog.verify(name, row["completion"][-1]["content"] if "completion" in row else gold, row)
    return None if verdict.score == 1 else f"answer not right by its own verifier: {name}: {verdict.reason}"
