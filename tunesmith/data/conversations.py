"""Ready rows from messages: answers, preferences or scored prompts.

A row is built without its id. Messages that make no proper conversation raise RowError with the reason.
"""

from typing import cast

from tunesmith.core.ready_rows import Message, Row, content_text
from tunesmith.data.records import Fields, RowError
from tunesmith.data.turns import markup
from tunesmith.data.turns.order import check_order, is_empty


def strip_after_transcript(fields: Fields, prompt: str, answer: list[Message]) -> list[Message]:
    """Strip an answer to a transcript, which begins with the space after ``Assistant:``."""
    transcript = fields[prompt]
    if isinstance(transcript, str) and markup.has_markup(transcript, at_start=True):
        return [{**message, "content": content_text(message).strip()} for message in answer]
    return answer


def answers_row(prompt: list[Message], completion: list[Message]) -> Row:
    """Build a row of answers. Raises RowError unless the conversation is in order and ends with one assistant turn.

    What an assistant says before the last result of a tool belongs to its answer: it goes into the prompt, marked as
    trained. Of turns that are marked by the data set, the last that is not left out of training is the completion.
    """
    if len(completion) > 1:
        answers = sum(message["role"] == "assistant" for message in completion)
        if answers > 1 and any(message["role"] == "user" for message in completion):
            raise RowError(f"several assistant turns: the completion has {answers}, and one is trained")
        prompt, completion = [*prompt, *completion[:-1]], completion[-1:]
    if completion[-1]["role"] != "assistant":
        raise RowError(f"no assistant at the end: the last turn is the {completion[-1]['role']}'s")
    if any("train" in message for message in (*prompt, *completion)):
        prompt, completion = _last_trained([*prompt, *completion])
    if prompt and prompt[-1]["role"] == "tool":
        prompt = _with_calls_trained(prompt)
    _check_prompt(prompt)
    _check_completion(completion, "completion")
    check_order(prompt + completion)
    return {"prompt": prompt, "completion": completion}


def _last_trained(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Split a conversation whose turns are marked at the last one that may be trained; those after it teach nothing."""
    trained = [at for at, message in enumerate(messages) if message["role"] == "assistant" and message.get("train", 1)]
    if not trained:
        raise RowError("nothing to train: every turn of the assistant is marked as not trained")
    last = messages[trained[-1]].copy()
    last.pop("train", None)
    return messages[: trained[-1]], [last]


def _with_calls_trained(prompt: list[Message]) -> list[Message]:
    """Mark the assistant's turns after the last of the user's as trained, where the data set says nothing else."""
    asked = max((at for at, message in enumerate(prompt) if message["role"] == "user"), default=0)
    return [
        {**message, "train": message.get("train", True)} if at > asked and message["role"] == "assistant" else message
        for at, message in enumerate(prompt)
    ]


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
    if any(side[0].get("train") is False for side in (chosen, rejected)):
        raise RowError("nothing to train: chosen or rejected is marked as not trained")
    prompt = _without_marks(_join_prompt(prompt, opening))
    chosen, rejected = _without_marks(chosen), _without_marks(rejected)
    _check_prompt(prompt)
    _check_completion(chosen, "chosen")
    _check_completion(rejected, "rejected")
    check_order(prompt + chosen)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def scored_row(prompt: list[Message], verifier: object, **needs: object) -> Row:
    """Build a row to score. ``needs``: the fields that the verifier reads."""
    if not isinstance(verifier, str) or not verifier.strip():
        raise RowError(f"wrong type: the verifier is {verifier!r}, not a name")
    prompt = _without_marks(prompt)
    _check_prompt(prompt)
    check_order(prompt)
    if prompt[-1]["role"] not in ("user", "tool"):
        raise RowError(f"wrong role order: the prompt ends with the {prompt[-1]['role']}'s turn")
    return cast("Row", {"prompt": prompt, "verifier": verifier, **needs})


def _without_marks(messages: list[Message]) -> list[Message]:
    """Leave out which turns are trained, where only answers are."""
    if not any("train" in message for message in messages):
        return messages
    return [
        cast("Message", {name: value for name, value in message.items() if name != "train"}) for message in messages
    ]


def _check_prompt(prompt: list[Message]) -> None:
    if not prompt or all(message["role"] == "system" for message in prompt):
        raise RowError("empty prompt: there is no user turn")
    if prompt[-1]["role"] == "user" and is_empty(content_text(prompt[-1])):
        raise RowError("empty prompt: the last turn before the answer has no visible text")


def _check_completion(completion: list[Message], name: str) -> None:
    if is_empty(content_text(completion[-1])) and "tool_calls" not in completion[-1]:
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
    return {**first, "content": content_text(first).strip()} == {**second, "content": content_text(second).strip()}
