"""Conversations as data sets write them, turned into messages {"role", "content"}, and the check of their order.

Formats: messages with `role` and `content`, ShareGPT's `from` and `value`, text with chat markup, and transcripts.
"""

import json
import re
from dataclasses import dataclass
from typing import NoReturn

from tunesmith.core.ready_rows import Message

ROLES = {
    **dict.fromkeys(("user", "human", "instruction", "prompter", "[inst]"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "response", "[/inst]"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response"), "tool"),
    "input": "input",
}
"""Role that each name stands for in a data set. Alpaca's `input` continues the user's turn."""

UNSUPPORTED = ("function_call", "weight", "train", "reasoning_content", "thinking")
"""Fields of a turn that change its text or whether it is trained, and that would not reach the chat template."""
INVISIBLE = " \t\n\r\v\f\xa0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff\xad"
"""White space and characters without a shape: a text of these alone is empty."""

FOLLOWS = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Roles that may follow each role."""


class RowError(Exception):
    """A row cannot be used; the text is the name of the check, a colon, and the finding."""


@dataclass(frozen=True)
class Markup:
    """A way to mark turns within a text."""

    name: str
    start: re.Pattern[str]
    """Matches the beginning of a turn; its group is the speaker."""
    end: tuple[str, ...] = ()
    """Tokens that may close a turn."""


MARKUPS = (
    Markup("ChatML", re.compile(r"<\|im_start\|>(\w+)\n"), ("<|im_end|>", "<|endoftext|>")),
    Markup("Llama 3", re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>"), ("<|eot_id|>", "<|end_of_text|>")),
    Markup("Gemma", re.compile(r"<start_of_turn>(\w+)\n"), ("<end_of_turn>", "<eos>")),
    Markup("Zephyr", re.compile(r"<\|(system|user|assistant|tool)\|>\n?"), ("</s>", "<|end|>", "<|endoftext|>")),
    Markup("Llama 2", re.compile(r"(?:<s>\s*)?(\[INST\]|\[/INST\])"), ("</s>",)),
    Markup("HH-RLHF", re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")),
    Markup("Alpaca", re.compile(r"(?:\A|\n)### (Instruction|Input|Response|Human|Assistant):")),
)
"""Markups in order: the first that begins a turn in the text is taken."""
MARK = re.compile(r"\s*(?:<|\[INST\]|### |Human:|Assistant:)")
"""Beginning of every text with markup at its start: a cheap test that most texts fail."""
OPENING = ("<|begin_of_text|>", "<bos>", "<s>", "<|endoftext|>")
LLAMA_2_SYSTEM = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def is_empty(text: str) -> bool:
    """Tell whether ``text`` has no visible character."""
    return not text[:1].isalnum() and not text.strip(INVISIBLE)


def has_markup(text: str, *, at_start: bool = False) -> bool:
    """Tell whether ``text`` marks its speakers; ``at_start``: from its first word on."""
    if at_start:
        return MARK.match(text) is not None and any(_begins(markup, text) for markup in MARKUPS)
    return any(_find(markup, text) for markup in MARKUPS)


def from_text(text: str) -> list[Message]:
    """Parse a text with chat markup into messages, each stripped of the white space around it.

    Text before the first turn (Alpaca's preamble) becomes the system message. Raises RowError without markup.
    """
    markup = next((markup for markup in MARKUPS if _find(markup, text)), None)
    if markup is None:
        raise RowError("no turns: the text does not mark its speakers")
    starts = _find(markup, text)
    before = text[: starts[0].start()]
    for token in OPENING:
        before = before.replace(token, "")
    messages: list[Message] = [{"role": "system", "content": before.strip()}] if before.strip() else []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        content = text[start.end() : following.start() if following else len(text)].rstrip()
        for end in markup.end:
            content = content.removesuffix(end).rstrip()
        # On a line of its own, indentation belongs to the content; beside the mark, a space belongs to the mark.
        content = content.lstrip("\n") if content.startswith("\n") or start[0].endswith("\n") else content.lstrip()
        messages += _split_system(role(start[1]), content)
    return _join_input(messages)


def from_list(values: list[object]) -> list[Message]:
    """Convert a list of turns to messages. Raises RowError for a malformed turn or an unknown role."""
    messages = [_message(value, position) for position, value in enumerate(values, start=1)]
    if not messages:
        raise RowError("missing turns: the conversation has none")
    return messages


def role(name: object) -> str:
    """Return the role that ``name`` stands for. Raises RowError for an unknown name."""
    standard = ROLES.get(name.lower()) if isinstance(name, str) else None
    if standard is None:
        raise RowError(f"unknown role: {name!r} does not stand for system, user, assistant or tool")
    return standard


def check_order(messages: list[Message]) -> None:
    """Raise RowError unless user and assistant alternate after at most one system message, without an empty turn."""
    previous = "start"
    for position, message in enumerate(messages, start=1):
        speaker = message["role"]
        if speaker not in FOLLOWS[previous]:
            after = "at the start" if previous == "start" else f"after {previous}"
            raise RowError(f"wrong role order: {speaker} {after} (turn {position})")
        if is_empty(message["content"]) and "tool_calls" not in message:
            raise RowError(f"empty turn: turn {position} ({speaker}) has no visible text")
        previous = speaker


def _message(value: object, position: int) -> Message:
    if not isinstance(value, dict):
        raise RowError(f"wrong type: turn {position} is {type(value).__name__}, not an object with role and content")
    if len(value) == 2:  # the fast path of nearly all turns
        if "content" in value and "role" in value and type(value["content"]) is str:
            return {"role": role(value["role"]), "content": value["content"]}
        if "value" in value and "from" in value and type(value["value"]) is str:
            return {"role": role(value["from"]), "content": value["value"]}
    unsupported = next((name for name in UNSUPPORTED if value.get(name) is not None), None)
    if unsupported is not None:
        raise RowError(f"field lost: {unsupported!r} of turn {position} would not reach the model")
    speaker = value.get("role", value.get("from"))
    if speaker is None:
        _missing(position, "role", value)
    message: Message = {"role": role(speaker), "content": _content(value, position)}
    if calls := value.get("tool_calls"):
        message["tool_calls"] = _tool_calls(calls, position)
    if call_id := value.get("tool_call_id"):
        message["tool_call_id"] = call_id
    if name := value.get("name"):
        message["name"] = name
    return message


def _tool_calls(calls: object, position: int) -> list[dict[str, object]]:
    """Return tool calls with their arguments as an object, as templates expect, where a data set has JSON text."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise RowError(f"wrong type: the tool calls of turn {position} are not a list of objects")
    parsed = []
    for call in calls:
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(f"wrong type: a tool call of turn {position} names no function")
        if isinstance(function.get("arguments"), str):
            try:
                function = function | {"arguments": json.loads(function["arguments"])}
            except ValueError:
                raise RowError(f"wrong type: the arguments of a tool call of turn {position} are not JSON") from None
        parsed.append(call | {"function": function} if "function" in call else function)
    return parsed


def _find(markup: Markup, text: str) -> list[re.Match[str]]:
    """Find the beginnings of turns; an empty list where the text does not begin with the markup."""
    starts: list[re.Match[str]] = []
    for start in markup.start.finditer(text):
        # Anywhere but after an instruction, "### Input:" is a heading within the content.
        if start[1] != "Input" or (starts and starts[-1][1] == "Instruction"):
            starts.append(start)
    return starts if markup.name == "Alpaca" or _begins(markup, text) else []


def _begins(markup: Markup, text: str) -> bool:
    rest = text.lstrip()
    while opening := next((token for token in OPENING if rest.startswith(token)), None):
        if markup.start.match(rest):
            break
        rest = rest.removeprefix(opening).lstrip()
    return markup.start.match(rest) is not None


def _content(value: dict[str, object], position: int) -> str:
    content = value.get("content", value.get("value"))
    if content is None and value.get("tool_calls"):
        return ""
    if content is None:
        _missing(position, "content", value)
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        other_types = [part.get("type") for part in content if part.get("type") != "text"]
        if other_types:
            raise RowError(f"wrong type: turn {position} has a part of type {other_types[0]!r}, not text")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise RowError(f"wrong type: the content of turn {position} is {type(content).__name__}, not text")
    return content


def _missing(position: int, name: str, value: dict[str, object]) -> NoReturn:
    names = ", ".join(map(repr, value)) or "nothing"
    raise RowError(f"missing field: turn {position} has no {name!r}; it has {names}")


def _split_system(speaker: str, content: str) -> list[Message]:
    """Split a turn into messages: Llama 2 writes the system message inside the first user turn."""
    system = LLAMA_2_SYSTEM.match(content) if speaker == "user" else None
    if system is None:
        return [{"role": speaker, "content": content}]
    rest = content[system.end() :].strip()
    return [{"role": "system", "content": system[1].strip()}, {"role": "user", "content": rest}]


def _join_input(messages: list[Message]) -> list[Message]:
    """Append each Alpaca input to the turn before it; an empty one is dropped."""
    joined: list[Message] = []
    for message in messages:
        if message["role"] != "input":
            joined.append(message)
        elif message["content"] and joined:
            joined[-1] = joined[-1] | {"content": f"{joined[-1]['content']}\n\n{message['content']}"}
    return joined
