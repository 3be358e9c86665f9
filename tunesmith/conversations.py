"""Ready rows made of conversations, and what keeps a conversation from being one."""

from typing import Any

from tunesmith import turns
from tunesmith.ready import Row
from tunesmith.turns import Message, RowError


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
