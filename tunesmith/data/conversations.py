"""Ready rows from the columns of a record: columns become messages, and messages a row of one of the three kinds.

A row is built without its id. A record that makes no proper conversation raises RowError with the reason.
"""

import math
from typing import cast

from tunesmith.core.ready_rows import Message, Row
from tunesmith.data import chat_formats
from tunesmith.data.chat_formats import RowError
from tunesmith.data.records import Fields

PROMPTS = ("prompt", "question", "instruction", "query", "problem", "input")
ANSWERS = ("completion", "response", "output", "answer", "solution")
CONTEXTS = ("input", "context")
"""Columns with material that a prompt refers to."""
CHOICES = ("choices", "options")
SYSTEMS = ("system", "system_prompt")
USE_TEMPLATE = "put it into the prompt with a template in data.<dataset>.columns"


def column_text(fields: Fields, column: str) -> str:
    """Return a column as text. Raises RowError where it is missing, of another type, or empty."""
    value = fields.get(column)
    if type(value) is not str:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return str(value)
        if value is None or value != value:  # tables write NaN for a missing value
            raise RowError(f"missing field: no value in {column!r}")
        raise RowError(f"wrong type: {column!r} is {type(value).__name__}, not text")
    if chat_formats.is_empty(value):
        part = "completion" if column in ANSWERS else "prompt" if column in PROMPTS else column
        raise RowError(f"empty {part}: {column!r} holds only space")
    return value


def column_messages(fields: Fields, column: str, speaker: str) -> list[Message]:
    """Return a column as messages: its list of turns, or its text as one turn of ``speaker``."""
    value = fields.get(column)
    if isinstance(value, list):
        return chat_formats.from_list(value)
    return [{"role": speaker, "content": column_text(fields, column)}]


def prompt_messages(fields: Fields, column: str) -> list[Message]:
    """Return a prompt column as messages: its list of turns, its transcript, or its text as one user turn.

    A transcript ends where the assistant is to answer. A user turn continues with the context column, if there is one.
    """
    messages = column_messages(fields, column, "user")
    if isinstance(fields[column], list):
        return messages
    choices = next((name for name in CHOICES if fields.get(name)), None)
    if choices is not None:
        raise RowError(f"column left out: {choices!r} is not text; {USE_TEMPLATE}")
    if chat_formats.has_markup(messages[0]["content"], at_start=True):
        messages = chat_formats.from_text(messages[0]["content"])
        if messages[-1]["role"] == "assistant" and not messages[-1]["content"]:
            messages.pop()
        return messages
    name = next((name for name in CONTEXTS if name != column and fields.get(name)), None)
    context = fields[name] if name is not None else None
    if context is None or context != context:  # NaN, as above
        return messages
    if not isinstance(context, str):
        raise RowError(f"column left out: {name!r} is not text; {USE_TEMPLATE}")
    if chat_formats.is_empty(context):
        return messages
    return [{"role": "user", "content": f"{messages[0]['content']}\n\n{context}"}]


def strip_after_transcript(fields: Fields, prompt: str, answer: list[Message]) -> list[Message]:
    """Strip an answer to a transcript, which begins with the space after ``Assistant:``."""
    transcript = fields[prompt]
    if isinstance(transcript, str) and chat_formats.has_markup(transcript, at_start=True):
        return [{**message, "content": message["content"].strip()} for message in answer]
    return answer


def with_system(prompt: list[Message], fields: Fields) -> list[Message]:
    """Put the record's system column before ``prompt``, unless the prompt has a system message."""
    if fields.keys().isdisjoint(SYSTEMS):
        return prompt
    system = next((value for name in SYSTEMS if isinstance(value := fields.get(name), str)), "")
    if chat_formats.is_empty(system) or prompt[0]["role"] == "system":
        return prompt
    return [{"role": "system", "content": system}, *prompt]


def answers_row(prompt: list[Message], completion: list[Message]) -> Row:
    """Build a row of answers. Raises RowError unless the conversation is in order and ends with one assistant turn."""
    if len(completion) > 1:
        answers = sum(message["role"] == "assistant" for message in completion)
        if answers > 1:
            raise RowError(f"several assistant turns: the completion has {answers}, and one is trained")
    _check_prompt(prompt)
    if completion[-1]["role"] != "assistant":
        raise RowError(f"no assistant at the end: the last turn is the {completion[-1]['role']}'s")
    _check_completion(completion, "completion")
    chat_formats.check_order(prompt + completion)
    return {"prompt": prompt, "completion": completion}


def preferences_row(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> Row:
    """Build a row of preferences; the turns that both conversations begin with go into the prompt.

    Raises RowError unless the conversations differ in one last assistant turn.
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
            reason = f"chosen and rejected differ from turn {shared + 1} on, which is the {side[0]['role']}'s"
            raise RowError(f"different prompts: {reason}")
    if len(chosen) > 1 or len(rejected) > 1:
        raise RowError(f"several assistant turns: chosen and rejected go on after they differ at turn {shared + 1}")
    prompt = _join_prompt(prompt, opening)
    _check_prompt(prompt)
    _check_completion(chosen, "chosen")
    _check_completion(rejected, "rejected")
    chat_formats.check_order(prompt + chosen)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def scored_row(prompt: list[Message], verifier: object, **needs: object) -> Row:
    """Build a row to score. ``needs``: the fields that the verifier reads."""
    if not isinstance(verifier, str) or not verifier.strip():
        raise RowError(f"wrong type: the verifier is {verifier!r}, not a name")
    _check_prompt(prompt)
    chat_formats.check_order(prompt)
    if prompt[-1]["role"] != "user":
        raise RowError(f"wrong role order: the prompt ends with the {prompt[-1]['role']}'s turn")
    return cast("Row", {"prompt": prompt, "verifier": verifier, **needs})


def _check_prompt(prompt: list[Message]) -> None:
    if not prompt or all(message["role"] == "system" for message in prompt):
        raise RowError("empty prompt: there is no user turn")
    if prompt[-1]["role"] == "user" and chat_formats.is_empty(prompt[-1]["content"]):
        raise RowError("empty prompt: the last turn before the answer has no visible text")


def _check_completion(completion: list[Message], name: str) -> None:
    if chat_formats.is_empty(completion[-1]["content"]) and "tool_calls" not in completion[-1]:
        raise RowError(f"empty completion: {name} has no visible text")


def _join_prompt(prompt: list[Message], opening: list[Message]) -> list[Message]:
    """Join a prompt column with the opening turns of conversations that repeat it, or its end, or begin with it."""
    system = [message for message in (*prompt, *opening) if message["role"] == "system"][:1]
    before = [message for message in prompt if message["role"] != "system"]
    after = [message for message in opening if message["role"] != "system"]
    if not before or not after or _ends_with(after, before):
        return [*system, *(after or before)]
    if _ends_with(before, after):
        return [*system, *before]
    if len(before) == 1 and _same(before[0], after[0]):
        return [*system, *after]
    raise RowError("different prompts: the prompt column is not the prompt within chosen and rejected")


def _ends_with(messages: list[Message], ending: list[Message]) -> bool:
    return len(messages) >= len(ending) and all(map(_same, messages[-len(ending) :], ending))


def _same(first: Message, second: Message) -> bool:
    """Tell whether two messages are equal but for white space around their content."""
    if first == second:
        return True
    return {**first, "content": first["content"].strip()} == {**second, "content": second["content"].strip()}
