"""What a column of a record holds: text, or the turns of a conversation, with what stands beside it."""

import math
from typing import Any

from tunesmith.core.ready_rows import Row
from tunesmith.data import chat_formats
from tunesmith.data.chat_formats import Message, RowError

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
    if chat_formats.is_empty(value):
        raise RowError(f"empty {_part(column)}: {column!r} holds only space")
    return value


def messages(fields: Fields, column: str, speaker: str) -> list[Message]:
    """A column as messages: a list of turns, or text that ``speaker`` says."""
    value = fields.get(column)
    if isinstance(value, list):
        return chat_formats.from_list(value)
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
    if chat_formats.has_markup(said[0]["content"], at_start=True):
        said = chat_formats.from_text(said[0]["content"])
        if said[-1]["role"] == "assistant" and not said[-1]["content"]:
            said.pop()
        return said
    beside = next((name for name in MATERIAL if name in fields and name != column and fields[name]), None)
    if beside is None or fields[beside] != fields[beside]:
        return said
    if not isinstance(fields[beside], str):
        raise RowError(f"column left out: {beside!r} is not text; {MAP_IT}")
    if chat_formats.is_empty(fields[beside]):
        return said
    return [{"role": "user", "content": f"{said[0]['content']}\n\n{fields[beside]}"}]


def with_system(prompt: list[Message], fields: Fields) -> list[Message]:
    """``prompt`` after the system message that stands beside it, unless it has one."""
    if fields.keys().isdisjoint(SYSTEMS):
        return prompt
    said = next((fields[name] for name in SYSTEMS if isinstance(fields.get(name), str)), "")
    if chat_formats.is_empty(said) or prompt[0]["role"] == "system":
        return prompt
    return [{"role": "system", "content": said}, *prompt]


def _part(column: str) -> str:
    if column in ANSWERS:
        return "completion"
    return "prompt" if column in PROMPTS else column


def after_transcript(fields: Fields, prompt: str, answer: list[Message]) -> list[Message]:
    """An answer to a transcript begins with the space after ``Assistant:``."""
    if isinstance(fields[prompt], str) and chat_formats.has_markup(fields[prompt], at_start=True):
        return [message | {"content": message["content"].strip()} for message in answer]
    return answer


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
    chat_formats.check_order(prompt + completion)
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
    chat_formats.check_order(prompt + chosen)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def scored(prompt: list[Message], verifier: Any, **needs: Any) -> Row:
    """A row to score. needs: what the verifier compares with."""
    if not isinstance(verifier, str) or not verifier.strip():
        raise RowError(f"wrong type: the verifier is {verifier!r}, not a name")
    _check_prompt(prompt)
    chat_formats.check_order(prompt)
    if prompt[-1]["role"] != "user":
        raise RowError(f"wrong role order: the prompt ends with the {prompt[-1]['role']}'s turn")
    return {"prompt": prompt, "verifier": verifier, **needs}


def _check_prompt(prompt: list[Message]) -> None:
    if not prompt or all(message["role"] == "system" for message in prompt):
        raise RowError("empty prompt: nobody asks")
    if prompt[-1]["role"] == "user" and chat_formats.is_empty(prompt[-1]["content"]):
        raise RowError("empty prompt: the last turn before the answer says nothing")


def _check_completion(completion: list[Message], name: str) -> None:
    if chat_formats.is_empty(completion[-1]["content"]) and "tool_calls" not in completion[-1]:
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
