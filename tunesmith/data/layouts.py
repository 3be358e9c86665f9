"""The common layouts of training data, recognised by their columns and turned into ready rows.

Rows of four kinds can train. Answers: a prompt and the answer to learn. Preferences: a prompt with a better and a
worse answer. Marks: a prompt and an answer that is good or bad, which is any layout of answers beside a column that
says so (`tunesmith/data/marks.py`). Scored: a prompt and the fields with which a verifier scores any answer. A layout
that cannot train is recognised too, so that the reason can be given. `LAYOUTS`, at the end, is the table of all.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from tunesmith.core.ready_rows import Message, Row, RowKind
from tunesmith.data import chat_formats, marks
from tunesmith.data.chat_formats import RowError
from tunesmith.data.conversations import (
    ANSWERS,
    PROMPTS,
    answers_row,
    column_messages,
    column_text,
    preferences_row,
    prompt_messages,
    scored_row,
    strip_after_transcript,
)
from tunesmith.data.records import Fields
from tunesmith.verifiers import catalog


@dataclass(frozen=True)
class Layout:
    """Columns by which a row is recognised, and the ready row that it becomes."""

    kind: RowKind | None
    """Kind of the ready row; None for a layout that cannot train."""
    description: str
    """A row of the layout in one line; of a layout that cannot train, also the reason."""
    columns: tuple[str, ...]
    """Names of the columns that a row must have."""
    build: Callable[..., Row] | None = None
    """Builds the ready row from the record's fields and the names in ``columns``; None where ``kind`` is None."""
    only: Callable[[Fields], bool] | None = None
    """Condition that tells the layout from others with the same columns."""

    def to_row(self, fields: Fields) -> Row:
        """Build the ready row without its id. Raises RowError where the record is bad or its layout cannot train."""
        if self.build is None:
            raise RowError(f"not trainable: {self.description}")
        return self.build(fields, *self.columns)


def recognise(fields: Fields, kind: RowKind | None = None) -> Layout | None:
    """Return the first layout of `LAYOUTS` that can give rows of ``kind`` and whose columns the record has.

    A null counts as a missing column.
    """
    if None in fields.values():
        fields = {name: value for name, value in fields.items() if value is not None}
    for layout in _with_columns(tuple(fields), kind):
        if layout.only is None or layout.only(fields):
            mark = marks.find(fields) if layout.kind == "answers" else None
            if mark is None:
                return None if kind == "marks" else layout
            return _marked(layout, mark.columns, isinstance(mark.value, bool))
    return None


@functools.lru_cache(maxsize=1024)
def _marked(layout: Layout, columns: tuple[str, ...], decided: bool) -> Layout:
    """``layout`` whose answer is marked in ``columns``. Its rows have the mark or the rating itself as their label."""

    def build(fields: Fields, *_: str) -> Row:
        row, mark = layout.to_row(fields), marks.find(fields)
        assert mark is not None
        return cast("Row", row | {"label": mark.value})

    return Layout("marks", MARKED if decided else RATED, (*layout.columns, *columns), build)


@functools.lru_cache(maxsize=1024)
def _with_columns(columns: tuple[str, ...], kind: RowKind | None) -> tuple[Layout, ...]:
    return tuple(layout for layout in _of_kind(kind) if set(layout.columns) <= set(columns))


@functools.cache
def _of_kind(kind: RowKind | None) -> tuple[Layout, ...]:
    """Return layouts that can give rows of ``kind`` (None: all). Answers can be marked, or have a verifier."""
    kinds = (kind, "answers") if kind in ("marks", "scored") else (kind,)
    return LAYOUTS if kind is None else tuple(layout for layout in LAYOUTS if layout.kind in kinds)


def unrecognised(fields: Fields, kind: RowKind) -> RowError:
    """Make the error for a row that no layout of ``kind`` fits: it names what the row lacks."""
    names = [name for name, value in fields.items() if value is not None]
    columns = f"the row has {', '.join(map(repr, names)) or 'nothing'}"
    other = recognise(fields)
    if other is not None and other.kind is not None:
        return RowError(f"wrong kind: {other.description}, among rows of kind {kind}")
    if other is not None and other.description == PLAIN_TEXT:
        return RowError(f"no turns: {PLAIN_TEXT}")
    nearest = _nearest(tuple(names), kind)
    missing = [name for name in nearest.columns if name not in names]
    if len(missing) == len(nearest.columns) or not missing:
        return RowError(f"unknown layout: {columns}")
    return RowError(f"missing field: no {' and no '.join(map(repr, missing))}; {columns}")


@functools.lru_cache(maxsize=1024)
def _nearest(columns: tuple[str, ...], kind: RowKind) -> Layout:
    """Return the layout of ``kind`` that lacks least of its columns."""
    return min(_of_kind(kind), key=lambda layout: (-len({*layout.columns} & {*columns}), len(layout.columns)))


def _answer(fields: Fields, prompt: str, completion: str, reference: str | None = None) -> Row:
    answer = strip_after_transcript(fields, prompt, column_messages(fields, completion, "assistant"))
    row = answers_row(prompt_messages(fields, prompt), answer)
    return row if reference is None else row | {"reference": column_text(fields, reference)}


def _chat(fields: Fields, column: str) -> Row:
    value = fields[column]
    if isinstance(value, str) and value.lstrip().startswith("["):  # tables often hold a list as JSON text
        try:
            fields = fields | {column: json.loads(value)}
        except ValueError:
            raise RowError(f"wrong type: {column!r} is neither a list of turns nor JSON of one") from None
    return _split_last(column_messages(fields, column, "user"))


def _chat_as_text(fields: Fields, column: str) -> Row:
    return _split_last(chat_formats.from_text(column_text(fields, column)))


def _split_last(messages: list[Message]) -> Row:
    """Build a row of answers whose last turn is the completion and whose other turns are the prompt."""
    if messages[-1]["role"] != "assistant":
        raise RowError(f"no assistant at the end: the last turn is the {messages[-1]['role']}'s")
    return answers_row(messages[:-1], messages[-1:])


def _pair(fields: Fields, prompt: str, chosen: str, rejected: str) -> Row:
    marks.check_pair(fields)
    sides = [
        strip_after_transcript(fields, prompt, _side(fields, column, has_prompt=True)) for column in (chosen, rejected)
    ]
    return preferences_row(prompt_messages(fields, prompt), *sides)


def _pair_of_conversations(fields: Fields, chosen: str, rejected: str) -> Row:
    marks.check_pair(fields)
    return preferences_row([], *(_side(fields, column, has_prompt=False) for column in (chosen, rejected)))


def _correction(fields: Fields, prompt: str, correction: str, draft: str) -> Row:
    return _answer(fields, prompt, correction)


def _is_rated(answers: str, fields: Fields) -> bool:
    return marks.is_list_of_rated(fields, answers)


def _best_and_worst(fields: Fields, prompt: str, answers: str) -> Row:
    return preferences_row(prompt_messages(fields, prompt), *marks.best_and_worst(fields, answers))


def _side(fields: Fields, column: str, *, has_prompt: bool) -> list[Message]:
    """Return one side of a pair: a conversation, a transcript, or beside a prompt column the text of an answer."""
    value = fields.get(column)
    if isinstance(value, list):
        return chat_formats.from_list(value)
    text = column_text(fields, column)
    if chat_formats.has_markup(text, at_start=True):
        return chat_formats.from_text(text)
    if not has_prompt:
        raise RowError("missing field: no prompt, neither as a column nor as turns within chosen and rejected")
    return [{"role": "assistant", "content": text}]


def _scored(fields: Fields, prompt: str, verifier: str, reference: str | None = None) -> Row:
    """Build the row of a prompt that names its verifier; other fields that the verifier reads are kept as they are."""
    name = fields[verifier]
    needs = catalog.columns_read(name, fields) if isinstance(name, str) and name in catalog.VERIFIERS else {}
    if reference is not None:
        value = fields[reference]
        # Several right answers, or a JSON object, are kept where there is a verifier for them.
        needs["reference"] = value if needs and isinstance(value, list | dict) else column_text(fields, reference)
    return scored_row(prompt_messages(fields, prompt), name, **needs)


def _instructions(fields: Fields, prompt: str, instructions: str, settings: str) -> Row:
    ids, values = fields[instructions], fields[settings]
    if not isinstance(ids, list) or not isinstance(values, list) or len(ids) != len(values) or not ids:
        raise RowError(f"wrong type: {instructions!r} and {settings!r} are not lists of the same length")
    return scored_row(column_messages(fields, prompt, "user"), "instructions", instructions=ids, settings=values)


def _program(fields: Fields, prompt: str, solution: str, test: str, entry_point: str) -> Row:
    needs = {"test": column_text(fields, test), "entry_point": column_text(fields, entry_point)}
    messages = column_messages(fields, prompt, "user")  # code is not a transcript: it is kept to the last space
    return scored_row(messages, "code", reference=column_text(fields, solution), **needs)


def _refusal(fields: Fields, prompt: str, label: str) -> Row:
    return scored_row(column_messages(fields, prompt, "user"), "refusal", label=fields[label])


def _each(
    kind: RowKind | None, description: str, columns: tuple[str | tuple[str, ...], ...], build: Callable[..., Row] | None
) -> Iterator[Layout]:
    """Yield a layout for each combination of names, where ``columns`` gives several names for a column."""
    for names in itertools.product(*((name,) if isinstance(name, str) else name for name in columns)):
        yield Layout(kind, description, names, build)


REFERENCES = ("reference", "ground_truth", *ANSWERS)
CHAT = "a chat that ends with the assistant's answer"
ONE_ANSWER = "a prompt with one right answer"
PAIR = "a prompt with a better and a worse answer"
PROMPT_ALONE = "a prompt alone: nothing says what a good answer is"
PLAIN_TEXT = "a text that does not mark its speakers; no method here trains on plain text"
MARKED = "a prompt with one answer marked good or bad"
RATED = "a prompt with one rated answer"
RATED_LIST = "a prompt with several rated answers, of which the best and the worst make a pair"
CORRECTED = "a prompt with an answer and its correction"
DRAFTS = ("draft", "original", "original_response", "rejected_draft", *ANSWERS)
CORRECTIONS = (
    *("correction", "corrected", "corrected_response", "corrected_answer", "edited", "edited_response"),
    *("revision", "revised", "revised_response", "revision_response", "improved_response", "final", "final_response"),
)
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "scored",
        "the start of a program and the tests that it must pass",
        ("prompt", "canonical_solution", "test", "entry_point"),
        _program,
    ),
    Layout(
        "scored",
        "a prompt and the rules that an answer must keep",
        ("prompt", "instruction_id_list", "kwargs"),
        _instructions,
    ),
    # {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"} becomes
    # {"prompt": [user: 2 + 2?], "chosen": [assistant: 4], "rejected": [assistant: 5]}.
    *_each("preferences", PAIR, (PROMPTS, "chosen", "rejected"), _pair),
    Layout("preferences", PAIR, ("chosen", "rejected"), _pair_of_conversations),
    *(
        Layout("preferences", RATED_LIST, (prompt, answers), _best_and_worst, functools.partial(_is_rated, answers))
        for prompt, answers in itertools.product(PROMPTS, (*marks.LISTS, *marks.ORDERED))
    ),
    # {"question": "2 + 2?", "verifier": "number", "answer": "4"} becomes
    # {"prompt": [user: 2 + 2?], "verifier": "number", "reference": "4"}.
    *_each("scored", "a prompt, its right answer, and the verifier to use", (PROMPTS, "verifier", REFERENCES), _scored),
    *_each("scored", "a prompt, and the verifier to use", (PROMPTS, "verifier"), _scored),
    # {"prompt": "2 + 2?", "draft": "5", "correction": "4"} teaches the correction, or as a pair that over the draft.
    *_each("answers", CORRECTED, (PROMPTS, CORRECTIONS, DRAFTS), _correction),
    *_each("preferences", CORRECTED, (PROMPTS, CORRECTIONS, DRAFTS), _pair),
    Layout("answers", CHAT, ("messages",), _chat),
    Layout("answers", CHAT, ("conversations",), _chat),
    Layout("answers", CHAT, ("conversation",), _chat),
    # {"problem": "2 + 2?", "solution": "It is 4.", "answer": "4"} becomes
    # {"prompt": [user: 2 + 2?], "completion": [assistant: It is 4.], "reference": "4"}.
    *_each("answers", ONE_ANSWER, (PROMPTS, "solution", "answer"), _answer),
    # {"query": "2 + 2?", "response": "4"} becomes {"prompt": [user: 2 + 2?], "completion": [assistant: 4]}.
    Layout("answers", ONE_ANSWER, ("question", "answer"), _answer),
    Layout("answers", ONE_ANSWER, ("instruction", "output"), _answer),
    Layout("answers", ONE_ANSWER, ("query", "response"), _answer),
    Layout("answers", ONE_ANSWER, ("problem", "solution"), _answer),
    Layout("answers", ONE_ANSWER, ("input", "output"), _answer),
    *_each("answers", ONE_ANSWER, (PROMPTS, ANSWERS), _answer),
    Layout(
        "scored",
        "a prompt marked safe or unsafe to answer",
        ("prompt", "label"),
        _refusal,
        only=lambda fields: fields["label"] in ("safe", "unsafe"),
    ),
    Layout(
        "answers",
        "a chat written as one text with markup",
        ("text",),
        _chat_as_text,
        only=lambda fields: isinstance(fields["text"], str) and chat_formats.has_markup(fields["text"]),
    ),
    Layout(None, PLAIN_TEXT, ("text",)),
    *_each(None, PROMPT_ALONE, ((*PROMPTS, "chosen"),), None),
)
"""Every layout that is recognised without configuration; the first that fits is taken. `PROMPTS`, `ANSWERS` and
`REFERENCES` stand for each of their names; the usual pairs of a prompt and an answer precede all their combinations."""
