"""What a column of a record holds: text, or the turns of a conversation, with what stands beside it."""

import math
from typing import Any

from tunesmith import turns
from tunesmith.turns import Message, RowError

Fields = dict[str, Any]

PROMPTS = ("prompt", "question", "instruction", "query", "problem", "input")
ANSWERS = ("completion", "response", "output", "answer", "solution")
MATERIAL = ("input", "context")
"""Columns that a prompt may be about."""
MAP_IT = "put it into the prompt with a template in data.<dataset>.columns"
CHOICES = ("choices", "options")
SYSTEMS = ("system", "system_prompt")


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


def after_transcript(fields: Fields, prompt: str, answer: list[Message]) -> list[Message]:
    """An answer to a transcript begins with the space after ``Assistant:``."""
    if isinstance(fields[prompt], str) and turns.has_markup(fields[prompt], at_start=True):
        return [message | {"content": message["content"].strip()} for message in answer]
    return answer
