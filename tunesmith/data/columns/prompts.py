"""Prompts put together from the columns of a record: instruction, question, material, options, history and system."""

import itertools
import math
import re
from decimal import Decimal

from tunesmith.core.ready_rows import Message, content_text
from tunesmith.data.columns.names import (
    ANSWERS,
    CHOICES,
    HISTORIES,
    INPUTS,
    OPTION_COLUMNS,
    OPTION_LABELS,
    PROMPT_RANKS,
    PROMPTS,
    SYSTEMS,
)
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import markup, messages, tags
from tunesmith.data.turns.fields import is_nothing
from tunesmith.data.turns.order import is_empty

USE_TEMPLATE = "put it into the prompt with a template in data.<dataset>.columns"


def column_text(fields: Fields, column: str) -> str:
    """Return a column as text. Raises RowError where it is missing, of another type, or empty."""
    value = fields.get(column)
    if type(value) is not str:
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value):
            return str(value)
        if value is None or value != value:  # tables write NaN for a missing value
            raise RowError(f"missing field: no value in {column!r}")
        raise RowError(f"wrong type: {column!r} is {type(value).__name__}, not text")
    if is_empty(value):
        part = "completion" if column in ANSWERS else "prompt" if column in PROMPTS else column
        raise RowError(f"empty {part}: {column!r} holds only space")
    return value


def column_messages(fields: Fields, column: str, speaker: str) -> list[Message]:
    """Return a column as messages: its list of turns, or its text as one turn of ``speaker``."""
    value = fields.get(column)
    if isinstance(value, list):
        return messages.from_list(value)
    return [tags.read({"role": speaker, "content": column_text(fields, column)})]


def prompt_messages(fields: Fields, column: str) -> list[Message]:
    """Return the prompt of a record whose prompt column is ``column``.

    That column holds turns, a transcript that ends where the assistant is to answer, or text. Other columns of
    `PROMPT_RANKS` and the options of a choice continue the last user turn, and a history comes before it. Raises
    RowError where the order of two columns is unclear, or where one cannot be text.
    """
    before, after = _others(fields, column)
    value = fields.get(column)
    if isinstance(value, list):
        made = messages.from_list(value)
    elif (before or after) and (_is_empty_text(value) or any(_is_within(column, value, part) for part in before)):
        made = []  # the instruction is in another column
    else:
        text = column_text(fields, column)
        made = [{"role": "user", "content": text}]
        if markup.has_markup(text, at_start=True):
            made = markup.from_text(text)
            if made[-1]["role"] == "assistant" and not made[-1]["content"]:
                made.pop()
    if before or after:
        made = _with_parts(made, before, after)
    return [*_history(fields), *made] if not fields.keys().isdisjoint(HISTORIES) else made


def has_others(fields: Fields) -> bool:
    """Tell whether the record has columns beside a prompt and an answer."""
    return len(fields) > 2


def _others(fields: Fields, column: str) -> tuple[list[str], list[str]]:
    """Return the texts of the other prompt columns that go before and after ``column``, the options of a choice last.

    Raises RowError for two columns of one rank whose texts differ: either might be the prompt.
    """
    if not has_others(fields):
        return [], []
    before: list[str] = []
    after: list[str] = []
    own_rank = next((rank for rank, names in enumerate(PROMPT_RANKS) if column in names), 0)
    for rank, names in enumerate(PROMPT_RANKS):
        filled = [name for name in names if name in fields and (name == column or not _is_empty_text(fields[name]))]
        if column not in filled and rank == own_rank:
            filled.append(column)
        others = [name for name in filled if name != column]
        if len(filled) > 1:
            others = [name for name in others if not _repeats(fields, name, filled)]
            if (others and rank == own_rank) or len(others) > 1:
                named = " and ".join(map(repr, filled))
                raise RowError(f"ambiguous: {named} may each be the prompt; name one, or a template of both, in "
                               "data.<dataset>.columns")  # fmt: skip
        for name in others:
            said = [*before, *after, *([fields.get(column)] if rank > own_rank else [])]
            if any(_is_within(name, fields[name], text) for text in said):
                continue
            if not isinstance(fields[name], str):
                raise RowError(f"column left out: {name!r} is not text; {USE_TEMPLATE}")
            (before if rank < own_rank else after).append(str(fields[name]))
    options = choices(fields)
    if options and not _has_options(fields.get(column), options):
        after.append("\n".join(f"{letter}. {text}" for letter, text in zip(OPTION_LABELS, options, strict=False)))
    return before, after


def _has_options(text: object, options: list[str]) -> bool:
    """Tell whether a text lists the options already, each after its letter."""
    lettered = zip(OPTION_LABELS, options, strict=False)
    return isinstance(text, str) and all(
        re.search(rf"\b{letter}[.):]+\s*{re.escape(option)}", text) for letter, option in lettered
    )


def _repeats(fields: Fields, name: str, among: list[str]) -> bool:
    """Tell whether a column repeats a part of another one that is used."""
    text = fields[name]
    others = [fields[other] for other in among if other != name]
    return any(isinstance(other, str) and isinstance(text, str) and text.strip() in other for other in others)


def _is_within(name: str, text: object, whole: object) -> bool:
    """Tell whether a text repeats what a prompt says: a question or material in it, or an input on lines of its own."""
    if not isinstance(text, str) or not isinstance(whole, str) or _is_empty_text(text):
        return False
    text, whole = text.strip(), whole.strip()
    return f"\n{text}\n" in f"\n{whole}\n" if name in INPUTS else text in whole


def _is_empty_text(value: object) -> bool:
    return is_nothing(value) or (isinstance(value, str) and is_empty(value))


def _with_parts(made: list[Message], before: list[str], after: list[str]) -> list[Message]:
    """Put texts before and after the last user turn."""
    if not made:
        return [{"role": "user", "content": "\n\n".join([*before, *after])}]
    if made[-1]["role"] != "user":
        raise RowError(
            f"column left out: the prompt ends with the {made[-1]['role']}'s turn, which no column continues"
        )
    content = "\n\n".join([*before, content_text(made[-1]), *after])
    return [*made[:-1], {**made[-1], "content": content}]


def choices(fields: Fields) -> list[str]:
    """Return the options of a multiple-choice question; an empty list where there are none.

    They are in one column, or each in its own. Raises RowError for options that are not texts.
    """
    name = next((name for name in CHOICES if not is_nothing(fields.get(name))), None)
    if name is None:
        return [str(fields[column]) for column in option_columns(fields)]
    value = fields[name]
    if isinstance(value, dict):  # {"text": [...], "label": [...]} or {"A": ..., "B": ...}
        value = value["text"] if isinstance(value.get("text"), list) else list(value.values())
    texts = [option.get("text") if isinstance(option, dict) else option for option in value] if (
        isinstance(value, list)
    ) else []  # fmt: skip
    if len(texts) < 2 or not all(isinstance(text, str | int | float) for text in texts):
        raise RowError(f"column left out: {name!r} is no list of texts; {USE_TEMPLATE}")
    return list(map(str, texts))


def option_columns(fields: Fields) -> list[str]:
    """Return the columns that hold an option each, from A on; an empty list for fewer than two."""
    for form in OPTION_COLUMNS:
        if is_nothing(fields.get(form.format("B"))):
            continue
        columns = itertools.takewhile(lambda name: not is_nothing(fields.get(name)), map(form.format, OPTION_LABELS))
        if len(found := list(columns)) > 1:
            return found
    return []


def option(answer: int, options: list[str]) -> str:
    """Return the letter of an option, which is numbered from 0. Raises RowError where ``answer`` may be its text."""
    numbered = 0 <= answer < len(options)
    if numbered == (str(answer) in options) and not (numbered and options[answer] == str(answer)):
        raise RowError(f"ambiguous: the answer {answer} may be the place of an option, from 0 on, or one's text")
    return OPTION_LABELS[answer] if numbered and answer < len(OPTION_LABELS) else str(answer)


def _history(fields: Fields) -> list[Message]:
    """Return the turns before the prompt, from pairs of a question and an answer or from a list of turns."""
    name = next((name for name in HISTORIES if not is_nothing(fields.get(name))), None)
    if name is None:
        return []
    value = fields[name]
    if isinstance(value, list) and all(isinstance(turn, dict) and turn.keys() & {"role", "from"} for turn in value):
        return messages.from_list(value)
    pairs = [tuple(pair.values()) if isinstance(pair, dict) else pair for pair in value] if (
        isinstance(value, list)
    ) else [None]  # fmt: skip
    made: list[Message] = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowError(f"column left out: {name!r} is no list of pairs of a question and its answer")
        made += [{"role": "user", "content": pair[0]}, tags.read({"role": "assistant", "content": pair[1]})]
    return made


def with_system(prompt: list[Message], fields: Fields) -> list[Message]:
    """Put the record's system column before ``prompt``. Raises RowError where its own system message differs."""
    if fields.keys().isdisjoint(SYSTEMS):
        return prompt
    name = next((name for name in SYSTEMS if not is_nothing(fields.get(name))), None)
    if name is None:
        return prompt
    value = fields[name]
    if isinstance(value, dict):
        value = value.get("parts", [value])
    if isinstance(value, list):  # Anthropic's and Bedrock's blocks
        [message] = messages.from_list([{"role": "system", "content": value}])
        value = message["content"]
    if not isinstance(value, str):
        raise RowError(f"wrong type: {name!r} is {type(value).__name__}, not text")
    if is_empty(value):
        return prompt
    if prompt[0]["role"] != "system":
        return [{"role": "system", "content": value}, *prompt]
    if content_text(prompt[0]).strip() != value.strip():
        raise RowError(f"column left out: {name!r} is not the system message that the turns begin with")
    return prompt
