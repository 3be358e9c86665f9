"""What a row is: the common layouts of training data, recognised by their columns and turned into ready rows.

Three kinds of row can train. Answers: a prompt and what to answer. Preferences: a prompt with a better and a worse
answer. Scored: a prompt and what a verifier needs to score any answer. The rest is recognised too, and said to be
unready.
"""

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass

from tunesmith.core.ready_rows import Kind, Row
from tunesmith.data import chat_formats
from tunesmith.data.chat_formats import Message, RowError
from tunesmith.data.conversations import (
    ANSWERS,
    PROMPTS,
    Fields,
    after_transcript,
    answer,
    asked,
    messages,
    preference,
    scored,
    text,
)
from tunesmith.verifiers import catalog

USUAL = (
    *(("question", "answer"), ("instruction", "output")),
    *(("query", "response"), ("problem", "solution"), ("input", "output")),
)
"""Of the pairs of these, those to name where the second is missing."""
CHATS = ("messages", "conversations", "conversation")


@dataclass(frozen=True)
class Layout:
    """what: a row in one line. columns: those a row has. only: what tells it from others with the same columns.

    to_row: the ready row without its id; None for a row that cannot train, and then `what` says why.
    """

    kind: Kind | None
    what: str
    columns: tuple[str, ...]
    to_row: Callable[[Fields], Row] | None
    only: Callable[[Fields], bool] | None = None


def recognise(fields: Fields, kind: Kind | None = None) -> Layout | None:
    """The first layout, of those that can become rows of ``kind``, whose columns the row has (a null is no column)."""
    if None in fields.values():
        fields = {name: value for name, value in fields.items() if value is not None}
    for layout in _fitting(tuple(fields), kind):
        if layout.only is None or layout.only(fields):
            return MARKED if layout.kind == "answers" and _is_marked(fields) else layout
    return None


def unrecognised(fields: Fields, kind: Kind) -> RowError:
    """What keeps a row that no layout of ``kind`` fits from being one."""
    names = [name for name, value in fields.items() if value is not None]
    there = f"the row has {', '.join(map(repr, names)) or 'nothing'}"
    other = recognise(fields)
    if other is not None and other.kind is not None:
        return RowError(f"wrong kind: {other.what}, among rows of kind {kind}")
    if other is not None and other.what == PLAIN:
        return RowError(f"no turns: {PLAIN}")
    nearest = min(of_kind(kind), key=lambda layout: (-len({*layout.columns} & {*names}), len(layout.columns)))
    missing = [name for name in nearest.columns if name not in names]
    if len(missing) == len(nearest.columns) or not missing:
        return RowError(f"unknown layout: {there}")
    return RowError(f"missing field: no {' and no '.join(map(repr, missing))}; {there}")


@functools.cache
def of_kind(kind: Kind | None) -> tuple[Layout, ...]:
    """The layouts that can become rows of ``kind`` (null: all): answers can be scored where a verifier is named."""
    kinds = (kind, "answers") if kind == "scored" else (kind,)
    return LAYOUTS if kind is None else tuple(layout for layout in LAYOUTS if layout.kind in kinds)


def _is_marked(fields: Fields) -> bool:
    """Whether the row says of its answer that it is good or bad."""
    return any(str(fields[name]).lower() in MARKS for name in ("label", "kto_tag") if name in fields)


def _plain(prompt: str, completion: str, reference: str | None = None) -> Callable[[Fields], Row]:
    def to_row(fields: Fields) -> Row:
        said = after_transcript(fields, prompt, messages(fields, completion, "assistant"))
        row = answer(asked(fields, prompt), said)
        return row if reference is None else row | {"reference": text(fields, reference)}

    return to_row


def _chat(column: str) -> Callable[[Fields], Row]:
    def to_row(fields: Fields) -> Row:
        value = fields[column]
        if isinstance(value, str) and value.lstrip().startswith("["):  # in a table, a list is often written as JSON
            try:
                fields = fields | {column: json.loads(value)}
            except ValueError:
                raise RowError(f"wrong type: {column!r} is neither a list of turns nor JSON of one") from None
        return _split_last(messages(fields, column, "user"))

    return to_row


def _split_last(said: list[Message]) -> Row:
    """A conversation whose last turn is trained; all before is its prompt."""
    if said[-1]["role"] != "assistant":
        raise RowError(f"no assistant at the end: the last turn is the {said[-1]['role']}'s")
    return answer(said[:-1], said[-1:])


def _marked_text(fields: Fields) -> Row:
    return _split_last(chat_formats.from_text(text(fields, "text")))


def _pair(prompt: str | None) -> Callable[[Fields], Row]:
    def to_row(fields: Fields) -> Row:
        sides = [_side(fields, column, alone=prompt is not None) for column in ("chosen", "rejected")]
        if prompt is None:
            return preference([], *sides)
        return preference(asked(fields, prompt), *(after_transcript(fields, prompt, side) for side in sides))

    return to_row


def _side(fields: Fields, column: str, *, alone: bool) -> list[Message]:
    """One side of a pair: a conversation, a transcript, or beside a prompt column the answer alone."""
    if isinstance(fields.get(column), list):
        return chat_formats.from_list(fields[column])
    said = text(fields, column)
    if chat_formats.has_markup(said, at_start=True):
        return chat_formats.from_text(said)
    if not alone:
        raise RowError("missing field: no prompt, neither as a column nor as turns within chosen and rejected")
    return [{"role": "assistant", "content": said}]


def _checked(prompt: str, reference: str | None) -> Callable[[Fields], Row]:
    """Of a row that names its verifier; what else that reads is kept as it stands."""

    def to_row(fields: Fields) -> Row:
        name = fields["verifier"]
        needs = catalog.read_by(name, fields) if isinstance(name, str) and name in catalog.VERIFIERS else {}
        if reference is not None:
            value = fields[reference]
            # Several right answers, or a JSON object, are kept where there is a verifier for them.
            needs["reference"] = value if needs and isinstance(value, list | dict) else text(fields, reference)
        return scored(asked(fields, prompt), name, **needs)

    return to_row


def _instructions(fields: Fields) -> Row:
    ids, settings = fields["instruction_id_list"], fields["kwargs"]
    if not isinstance(ids, list) or not isinstance(settings, list) or len(ids) != len(settings) or not ids:
        raise RowError("wrong type: 'instruction_id_list' and 'kwargs' are not lists of the same length")
    return scored(messages(fields, "prompt", "user"), "instructions", instructions=ids, settings=settings)


def _program(fields: Fields) -> Row:
    # Indented code is text: it is kept to the last space.
    needs = {name: text(fields, name) for name in ("test", "entry_point")}
    return scored(messages(fields, "prompt", "user"), "code", reference=text(fields, "canonical_solution"), **needs)


def _refusal(fields: Fields) -> Row:
    return scored(messages(fields, "prompt", "user"), "refusal", label=fields["label"])


RIGHT = "a prompt with one right answer"
CHAT = "a chat that ends with the assistant's answer"
BETTER = "a prompt with a better and a worse answer"
PLAIN = "a text that does not mark who speaks; none of the methods here trains on plain text"
MARKS = ("true", "false", "0", "1", "0.0", "1.0")
MARKED = Layout(
    None,
    "a prompt with one answer marked good or bad, which no method learns from: make pairs of them, or name in "
    "data.<dataset>.columns the prompt and the completion of a file that holds the good ones alone",
    (),
    None,
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
    *(Layout("preferences", BETTER, (prompt, "chosen", "rejected"), _pair(prompt)) for prompt in PROMPTS),
    Layout("preferences", BETTER, ("chosen", "rejected"), _pair(None)),
    *(
        Layout("scored", "a prompt, its right answer, and the verifier to use", columns, _checked(*columns[:2]))
        for prompt in PROMPTS
        for reference in ("reference", "ground_truth", *ANSWERS)
        if prompt != reference and (columns := (prompt, reference, "verifier"))
    ),
    *(
        Layout("scored", "a prompt, and the verifier to use", (prompt, "verifier"), _checked(prompt, None))
        for prompt in PROMPTS
    ),
    *(Layout("answers", CHAT, (column,), _chat(column)) for column in CHATS),
    *(
        Layout("answers", RIGHT, (prompt, "solution", "answer"), _plain(prompt, "solution", "answer"))
        for prompt in PROMPTS
    ),
    *(
        Layout("answers", RIGHT, (prompt, name), _plain(prompt, name))
        for prompt, name in (*USUAL, *itertools.product(PROMPTS, ANSWERS))
    ),
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
        _marked_text,
        only=lambda fields: isinstance(fields["text"], str) and chat_formats.has_markup(fields["text"]),
    ),
    Layout(None, PLAIN, ("text",), None),
    *(
        Layout(None, "a prompt alone: nothing says what a good answer is", (prompt,), None)
        for prompt in (*PROMPTS, "chosen")
    ),
)
"""Every layout that is recognised without configuration; the first that fits is taken."""


@functools.lru_cache(maxsize=1024)
def _fitting(columns: tuple[str, ...], kind: Kind | None) -> tuple[Layout, ...]:
    return tuple(layout for layout in of_kind(kind) if set(layout.columns) <= set(columns))
