"""The rows that the page of a data set shows: as the chat template renders them, set aside, and repeated by others."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ChatError
from tunesmith.core.ready_rows import Message, Row, dumps
from tunesmith.data.dataset import Dataset
from tunesmith.data.images.thumbnails import Thumbnails
from tunesmith.data.personal import rows as personal
from tunesmith.data.prepare import CheckedRows, Positions
from tunesmith.data.records import Place, Problem
from tunesmith.data.splits import SPLITS
from tunesmith.models import chat, chat_template
from tunesmith.models.chat import Example
from tunesmith.models.images import parts
from tunesmith.models.images.tokens import FIRST_ID
from tunesmith.reports.data_set.data_report import REASON, SHOWN, cut
from tunesmith.reports.data_set.row_text import WINDOW, Masker, Span, joined

LONGEST = 5
"""Number of the longest rows that are shown."""
HEAD, TAIL = 2000, 1000
"""Most bytes of the beginning and of the end of a rendered text."""
RAW = 500
"""Most bytes of a row that was set aside or is repeated, and of what a verifier compares with."""
MOST_CHECKS = 20
"""Checks whose rows are shown with their text, those that set most rows aside."""
WITHHELD = (personal.CHECK, "secret")
"""Checks that set rows aside whose text is not shown, masked or not."""
EDGE, THUMBNAILS = 96, 60_000
"""The longer side of a thumbnail, in pixels, and bytes of all thumbnails of a page."""
EXACT = "exact duplicate"


class Part(NamedTuple):
    """One of the texts that a row is rendered as."""

    title: str
    spans: list[Span]
    trained: int | None
    """Number of trained tokens; None where nothing is trained of the row itself."""


class RenderedRow(TypedDict):
    """A ready row as trainings read it."""

    place: str
    split: str
    tokens: int
    """Tokens of the prompt with the longest answer."""
    parts: list[Part]
    images: list[str]
    """Thumbnails of its first images, as data URLs."""
    more_images: int
    """The number of its other images."""
    facts: dict[str, str]
    """The verifier, and what it compares an answer with."""


class RawRow(TypedDict):
    """A row that was set aside."""

    place: str
    reason: str
    """The finding of the check."""
    spans: list[Span] | None
    """The row as its file holds it; None where it is not shown."""


class Cluster(TypedDict):
    """A row that others repeat, and the first of these."""

    place: str
    spans: list[Span]
    rows: int
    """The number of rows that repeat it."""
    copies: list[RawRow]


class PageRows(TypedDict):
    """The rows of a page."""

    wanted: int
    """The data set's `page_rows`; where it is 0, no text of a row is here."""
    masks_personal_data: bool
    examples: list[RenderedRow]
    longest: list[RenderedRow]
    aside: dict[str, list[RawRow]]
    """The first rows that each check set aside, those first that most rows are set aside by."""
    clusters: list[Cluster]


def page_rows(
    dataset: Dataset,
    checked: CheckedRows,
    selected: dict[str, Positions],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> PageRows:
    """The rows that a data set's page shows.

    selected: the positions of each split's rows. tokenizer: of the base, which knows the rows' images. folder: of the
    ready rows, with their images.
    """
    masker, wanted = Masker(dataset), dataset.page_rows
    thumbnails = Thumbnails(EDGE, THUMBNAILS)

    def rendered(chosen: list[tuple[int, str]]) -> list[RenderedRow]:
        rows = [_rendered(checked, position, split, tokenizer, masker) for position, split in chosen]
        for row, (position, _) in zip(rows, chosen, strict=True):
            images = parts.images(checked.row(position)["prompt"])
            row["images"] = thumbnails.of(images, folder)
            row["more_images"] = len(images) - len(row["images"])
        return rows

    return {
        "wanted": wanted,
        "masks_personal_data": dataset.personal_data != "ignore",
        "examples": rendered(_examples(checked, selected, wanted)),
        "longest": rendered(_longest(checked, selected)) if wanted else [],
        "aside": _aside(checked, masker, text=wanted > 0),
        "clusters": _clusters(checked, masker) if wanted else [],
    }


def _examples(checked: CheckedRows, selected: dict[str, Positions], number: int) -> list[tuple[int, str]]:
    """The rows with the smallest ids, which are digests, so that each row is as likely: of train, if it has enough."""
    chosen: list[tuple[int, str]] = []
    for split in SPLITS:
        positions = selected[split]
        order = np.argsort(checked.index["id"][positions], kind="stable")
        chosen += [(position, split) for position in positions[order][: number - len(chosen)].tolist()]
    return chosen


def _longest(checked: CheckedRows, selected: dict[str, Positions]) -> list[tuple[int, str]]:
    positions = np.concatenate([selected[split] for split in SPLITS])
    splits = np.repeat(SPLITS, [len(selected[split]) for split in SPLITS])
    order = np.lexsort((checked.index["id"][positions], -checked.index["tokens"][positions]))[:LONGEST]
    return [(int(positions[place]), str(splits[place])) for place in order.tolist()]


def _rendered(
    checked: CheckedRows, position: int, split: str, tokenizer: PreTrainedTokenizerBase, masker: Masker
) -> RenderedRow:
    row = checked.row(position)
    facts = {"verifier": row["verifier"]} if "verifier" in row else {}
    if "reference" in row:
        reference = row["reference"]
        facts["right answer"] = reference if isinstance(reference, str) else dumps(reference).decode()
    return {
        "place": checked.place(position),
        "split": split,
        "tokens": int(checked.index["tokens"][position]),
        "images": [],
        "more_images": 0,
        "parts": [part._replace(spans=masker.ends(part.spans, HEAD, TAIL)) for part in _parts(row, tokenizer)],
        "facts": {name: joined(masker.head(text, RAW)) for name, text in facts.items()},
    }


def _parts(row: Row, tokenizer: PreTrainedTokenizerBase) -> Iterator[Part]:
    """What trainings make of a row, by the renderer that they use."""
    answers: dict[str, list[Message]] = {}
    if "completion" in row:
        mark = row.get("label")
        title = ("good answer" if mark else "bad answer") if isinstance(mark, bool) else "prompt and answer"
        answers[title] = row["completion"]
    if "chosen" in row:
        answers |= {"chosen answer": row["chosen"], "rejected answer": row["rejected"]}
    prompt, tools = row["prompt"], row.get("tools")
    if not answers:
        ids = chat.encode_prompt(tokenizer, prompt, tools)
        yield Part("prompt", _spans(tokenizer, Example(ids, [0] * len(ids))), None)
    for title, completion in answers.items():
        try:
            examples = chat.encode_examples(tokenizer, prompt, completion, tools)
        except ChatError as error:
            yield Part(title, [Span(f"A training would stop here: {error}")], None)
            continue
        for number, example in enumerate(examples[-SHOWN:], start=max(1, len(examples) - SHOWN + 1)):
            of = f", text {number} of {len(examples)}" if len(examples) > 1 else ""
            yield Part(title + of, _spans(tokenizer, example), sum(example.completion_mask))


def _spans(tokenizer: PreTrainedTokenizerBase, example: Example) -> list[Span]:
    """The text of tokens, divided into what is trained or not, special tokens, and images."""
    special = {*tokenizer.convert_tokens_to_ids(chat_template.special_tokens(tokenizer))}
    tokens = zip(example.input_ids, example.completion_mask, strict=True)
    spans = []
    for (trained, control, image), run in itertools.groupby(
        tokens, lambda token: (token[1], token[0] in special, token[0] if token[0] >= FIRST_ID else None)
    ):
        ids = [token for token, _ in run]
        text = parts.SHOWN if image else tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        spans.append(Span(text, trained == 1, special=control or image is not None))
    return [span for span in spans if span.text]


def _aside(checked: CheckedRows, masker: Masker, *, text: bool) -> dict[str, list[RawRow]]:
    counts = Counter(problem.check for problem in checked.problems).most_common()
    rows: dict[str, list[Problem]] = {check: [] for check, _ in counts}
    for problem in checked.problems:
        if len(rows[problem.check]) < SHOWN:
            rows[problem.check].append(problem)
    with_text = {check for check, _ in counts[:MOST_CHECKS] if text and check not in WITHHELD}
    return {
        check: [
            _raw(checked, problem, masker, masker.head(problem.raw, RAW) if check in with_text else None)
            for problem in first
        ]
        for check, first in rows.items()
    }


def _clusters(checked: CheckedRows, masker: Masker) -> list[Cluster]:
    copies: dict[Place, list[Problem]] = {place: [] for place in checked.repeated}
    for problem in checked.problems:
        if problem.repeated in copies:
            copies[problem.repeated].append(problem)
    return [
        {
            "place": checked.files.place(*place),
            "spans": masker.head(text, RAW),
            "rows": len(copies[place]),
            "copies": [
                _raw(checked, copy, masker, None if copy.check == EXACT else masker.changed(text, copy.raw, RAW))
                for copy in copies[place][:SHOWN]
            ],
        }
        for place, text in checked.repeated.items()
    ]


def _raw(checked: CheckedRows, problem: Problem, masker: Masker, spans: list[Span] | None) -> RawRow:
    [reason] = masker.texts([problem.reason[: WINDOW * REASON]])
    place = checked.files.place(problem.file, problem.line)
    return {"place": place, "reason": cut(reason, REASON), "spans": spans or None}
