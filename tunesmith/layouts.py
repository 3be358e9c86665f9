"""What a row is: the common layouts of training data, recognised by their columns and turned into ready rows.

Three kinds of row can train. Answers: a prompt and what to answer. Preferences: a prompt with a better and a worse
answer. Scored: a prompt and what a verifier needs to score any answer. The rest is recognised too, and said to be
unready.
"""

import functools
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith import turns
from tunesmith.ready import Row
from tunesmith.turns import Message, RowError

Kind = Literal["answers", "preferences", "scored"]
Fields = dict[str, Any]

PROMPTS = ("prompt", "question", "instruction", "query", "problem", "input")
ANSWERS = ("completion", "response", "output", "answer", "solution")
MATERIAL = ("input", "context")
"""Columns that a prompt may be about."""
MAP_IT = "put it into the prompt with a template in data.<dataset>.columns"
CHOICES = ("choices", "options")
SYSTEMS = ("system", "system_prompt")
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


def answer(prompt: list[Message], completion: list[Message]) -> Row:
    """A row of answers. Raises RowError unless it is a conversation that ends with one assistant's turn."""
    if len(completion) > 1:
        spoken = sum(message["role"] == "assistant" for message in completion)
        if spoken > 1:
            raise RowError(f"several assistant turns: the completion has {spoken}, and one is trained")
    _check_prompt(prompt)
    if completion[-1]["role"] != "assistant":
        raise RowError(f"no assistant at the end: the last turn is the {completion[-1]['role']}'s")
    _check_completion(completion, "completion")
    turns.check_order(prompt + completion)
    return {"prompt": prompt, "completion": completion}


def preference(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Row:
    """A row of preferences; what both conversations begin with becomes the prompt.

    Raises RowError unless they part at one last assistant's turn.
    """
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side or side[-1]["role"] != "assistant":
            last = side[-1]["role"] if side else "prompt"
            raise RowError(f"no assistant at the end: the last turn of {name} is the {last}'s")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and _same(chosen[shared], rejected[shared]):
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise RowError("chosen equals rejected: the pair prefers nothing")
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    opening, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    for side in (chosen, rejected):
        if side[0]["role"] != "assistant":
            reason = (
                f"different prompts: chosen and rejected part at turn {shared + 1}, which the {side[0]['role']} says"
            )
            raise RowError(reason)
    if len(chosen) > 1 or len(rejected) > 1:
        raise RowError(f"several assistant turns: chosen and rejected part at turn {shared + 1}, then go on")
    prompt = _join_prompt(prompt, opening)
    _check_prompt(prompt)
    _check_completion(chosen, "chosen")
    _check_completion(rejected, "rejected")
    turns.check_order(prompt + chosen)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def scored(prompt: list[Message], verifier: Any, **needs: Any) -> Row:
    """A row to score. needs: what the verifier compares with."""
    if not isinstance(verifier, str) or not verifier.strip():
        raise RowError(f"wrong type: the verifier is {verifier!r}, not a name")
    _check_prompt(prompt)
    turns.check_order(prompt)
    if prompt[-1]["role"] != "user":
        raise RowError(f"wrong role order: the prompt ends with the {prompt[-1]['role']}'s turn")
    return {"prompt": prompt, "verifier": verifier, **needs}


def text(fields: Fields, column: str) -> str:
    """A column as text. Raises RowError where it is missing, of another type, or empty."""
    value = fields.get(column)
    if type(value) is not str:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return str(value)
        if value is None or value != value:  # not a number is how tables write nothing
            raise RowError(f"missing field: no value in {column!r}")
        raise RowError(f"wrong type: {column!r} is {type(value).__name__}, not text")
    if turns.is_empty(value):
        raise RowError(f"empty {_part(column)}: {column!r} holds only space")
    return value


def messages(fields: Fields, column: str, speaker: str) -> list[Message]:
    """A column as messages: a list of turns, or text that ``speaker`` says."""
    value = fields.get(column)
    if isinstance(value, list):
        return turns.from_list(value)
    return [{"role": speaker, "content": text(fields, column)}]


def asked(fields: Fields, column: str) -> list[Message]:
    """A prompt column as messages: a list, a transcript that ends where the assistant is to speak, or what a user says.

    What the user says goes on with the material beside it, where there is some.
    """
    said = messages(fields, column, "user")
    if isinstance(fields[column], list):
        return said
    choices = next((name for name in CHOICES if fields.get(name)), None)
    if choices is not None:
        raise RowError(f"column left out: {choices!r} is not text; {MAP_IT}")
    if turns.has_markup(said[0]["content"], at_start=True):
        said = turns.from_text(said[0]["content"])
        if said[-1]["role"] == "assistant" and not said[-1]["content"]:
            said.pop()
        return said
    beside = next((name for name in MATERIAL if name in fields and name != column and fields[name]), None)
    if beside is None or fields[beside] != fields[beside]:
        return said
    if not isinstance(fields[beside], str):
        raise RowError(f"column left out: {beside!r} is not text; {MAP_IT}")
    if turns.is_empty(fields[beside]):
        return said
    return [{"role": "user", "content": f"{said[0]['content']}\n\n{fields[beside]}"}]


def with_system(prompt: list[Message], fields: Fields) -> list[Message]:
    """``prompt`` after the system message that stands beside it, unless it has one."""
    if fields.keys().isdisjoint(SYSTEMS):
        return prompt
    said = next((fields[name] for name in SYSTEMS if isinstance(fields.get(name), str)), "")
    if turns.is_empty(said) or prompt[0]["role"] == "system":
        return prompt
    return [{"role": "system", "content": said}, *prompt]


def _part(column: str) -> str:
    if column in ANSWERS:
        return "completion"
    return "prompt" if column in PROMPTS else column


def _check_prompt(prompt: list[Message]) -> None:
    if not prompt or all(message["role"] == "system" for message in prompt):
        raise RowError("empty prompt: nobody asks")
    if prompt[-1]["role"] == "user" and turns.is_empty(prompt[-1]["content"]):
        raise RowError("empty prompt: the last turn before the answer says nothing")


def _check_completion(completion: list[Message], name: str) -> None:
    if turns.is_empty(completion[-1]["content"]) and "tool_calls" not in completion[-1]:
        raise RowError(f"empty completion: {name} says nothing")


def _join_prompt(prompt: list[Message], opening: list[Message]) -> list[Message]:
    """A prompt column beside conversations that repeat it, or its end, or begin with it."""
    system = [message for message in (*prompt, *opening) if message["role"] == "system"][:1]
    before = [message for message in prompt if message["role"] != "system"]
    after = [message for message in opening if message["role"] != "system"]
    if not before or not after or _end_alike(after, before):
        return [*system, *(after or before)]
    if _end_alike(before, after):
        return [*system, *before]
    if len(before) == 1 and _same(before[0], after[0]):
        return [*system, *after]
    raise RowError("different prompts: the prompt column is not what chosen and rejected answer")


def _end_alike(long: list[Message], short: list[Message]) -> bool:
    return len(long) >= len(short) and all(map(_same, long[-len(short) :], short))


def _same(one: Message, other: Message) -> bool:
    return one == other or {**one, "content": one["content"].strip()} == {**other, "content": other["content"].strip()}


def _is_marked(fields: Fields) -> bool:
    """Whether the row says of its answer that it is good or bad."""
    return any(str(fields[name]).lower() in MARKS for name in ("label", "kto_tag") if name in fields)


def _plain(prompt: str, completion: str, reference: str | None = None) -> Callable[[Fields], Row]:
    def to_row(fields: Fields) -> Row:
        said = _after_transcript(fields, prompt, messages(fields, completion, "assistant"))
        row = answer(asked(fields, prompt), said)
        return row if reference is None else row | {"reference": text(fields, reference)}

    return to_row


def _after_transcript(fields: Fields, prompt: str, answer: list[Message]) -> list[Message]:
    """An answer to a transcript begins with the space after ``Assistant:``."""
    if isinstance(fields[prompt], str) and turns.has_markup(fields[prompt], at_start=True):
        return [message | {"content": message["content"].strip()} for message in answer]
    return answer


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
    return _split_last(turns.from_text(text(fields, "text")))


def _pair(prompt: str | None) -> Callable[[Fields], Row]:
    def to_row(fields: Fields) -> Row:
        sides = [_side(fields, column, alone=prompt is not None) for column in ("chosen", "rejected")]
        if prompt is None:
            return preference([], *sides)
        return preference(asked(fields, prompt), *(_after_transcript(fields, prompt, side) for side in sides))

    return to_row


def _side(fields: Fields, column: str, *, alone: bool) -> list[Message]:
    """One side of a pair: a conversation, a transcript, or beside a prompt column the answer alone."""
    if isinstance(fields.get(column), list):
        return turns.from_list(fields[column])
    said = text(fields, column)
    if turns.has_markup(said, at_start=True):
        return turns.from_text(said)
    if not alone:
        raise RowError("missing field: no prompt, neither as a column nor as turns within chosen and rejected")
    return [{"role": "assistant", "content": said}]


def _checked(prompt: str, reference: str) -> Callable[[Fields], Row]:
    def to_row(fields: Fields) -> Row:
        return scored(asked(fields, prompt), fields["verifier"], reference=text(fields, reference))

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
        only=lambda fields: isinstance(fields["text"], str) and turns.has_markup(fields["text"]),
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
