"""Conversations as data sets write them, turned into messages {"role", "content"}, and whether they are in order.

Messages with `role` and `content`, ShareGPT's `from` and `value`, text with chat markup, and transcripts.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

Message = dict[str, Any]
"""{"role", "content"}, and for tools also {"tool_calls", "tool_call_id", "name"}."""

ROLES = {
    **dict.fromkeys(("user", "human", "instruction", "prompter", "[inst]"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "response", "[/inst]"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response"), "tool"),
    "input": "input",
}
"""What data sets call who speaks. `input` is Alpaca's, and goes on with what the user says."""

TOOL_FIELDS = ("tool_calls", "tool_call_id", "name")
LOST = ("function_call", "weight", "train", "reasoning_content", "thinking")
"""Fields of a turn that change what it says or whether it trains, and that no template is given here."""
INVISIBLE = " \t\n\r\v\f\xa0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff\xad"
"""What leaves a text empty when it holds nothing else: white space, and characters without a shape."""

FOLLOWS = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Who may speak after whom."""


class RowError(Exception):
    """Why a row cannot be used, as ``check: what was found``."""


@dataclass(frozen=True)
class Markup:
    """How a text marks turns. start: matches where one begins and names who speaks. end: what may close one."""

    name: str
    start: re.Pattern[str]
    end: tuple[str, ...] = ()


MARKUPS = (
    Markup("ChatML", re.compile(r"<\|im_start\|>(\w+)\n"), ("<|im_end|>", "<|endoftext|>")),
    Markup("Llama 3", re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>"), ("<|eot_id|>", "<|end_of_text|>")),
    Markup("Gemma", re.compile(r"<start_of_turn>(\w+)\n"), ("<end_of_turn>", "<eos>")),
    Markup("Zephyr", re.compile(r"<\|(system|user|assistant|tool)\|>\n?"), ("</s>", "<|end|>", "<|endoftext|>")),
    Markup("Llama 2", re.compile(r"(?:<s>\s*)?(\[INST\]|\[/INST\])"), ("</s>",)),
    Markup("HH-RLHF", re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")),
    Markup("Alpaca", re.compile(r"(?:\A|\n)### (Instruction|Input|Response|Human|Assistant):")),
)
"""Text with chat markup; the first that begins a turn in the text is taken."""
MARK = re.compile(r"\s*(?:<|\[INST\]|### |Human:|Assistant:)")
"""What every text with markup at its start begins with: most texts are told from them at a glance."""
OPENING = ("<|begin_of_text|>", "<bos>", "<s>", "<|endoftext|>")
LLAMA_2_SYSTEM = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def is_empty(text: str) -> bool:
    """Whether nothing in ``text`` can be seen."""
    return not text[:1].isalnum() and not text.strip(INVISIBLE)


def has_markup(text: str, *, at_start: bool = False) -> bool:
    """Whether ``text`` marks who speaks; ``at_start``: from its first word on."""
    if at_start:
        return MARK.match(text) is not None and any(_begins(markup, text) for markup in MARKUPS)
    return any(_find(markup, text) for markup in MARKUPS)


def from_text(text: str) -> list[Message]:
    """The messages of a text with chat markup, each without the white space around it.

    Text before the first turn (Alpaca's preamble) is the system's. Raises RowError where there is no markup.
    """
    markup = next((markup for markup in MARKUPS if _find(markup, text)), None)
    if markup is None:
        raise RowError("no turns: the text does not mark who speaks")
    starts = _find(markup, text)
    before = text[: starts[0].start()]
    for token in OPENING:
        before = before.replace(token, "")
    messages = [{"role": "system", "content": before.strip()}] if before.strip() else []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        content = text[start.end() : following.start() if following else len(text)].rstrip()
        for end in markup.end:
            content = content.removesuffix(end).rstrip()
        # On a line of its own, indentation is part of what is said; beside the mark, a space is part of the mark.
        content = content.lstrip("\n") if content.startswith("\n") or start[0].endswith("\n") else content.lstrip()
        messages += _split_system(role(start[1]), content)
    return _join_input(messages)


def from_list(values: list[Any]) -> list[Message]:
    """The messages of a list of turns, as they are. Raises RowError for what is not one, or an unknown role."""
    messages = [_message(value, position) for position, value in enumerate(values, start=1)]
    if not messages:
        raise RowError("missing turns: the conversation has none")
    return messages


def role(name: Any) -> str:
    """The role that ``name`` stands for. Raises RowError for an unknown one."""
    known = ROLES.get(name.lower()) if isinstance(name, str) else None
    if known is None:
        raise RowError(f"unknown role: {name!r} is none of system, user, assistant, tool")
    return known


def check_order(messages: list[Message]) -> None:
    """Raise RowError unless user and assistant take turns after at most one system message, each saying something."""
    previous = "start"
    for position, message in enumerate(messages, start=1):
        speaker = message["role"]
        if speaker not in FOLLOWS[previous]:
            after = "at the start" if previous == "start" else f"after {previous}"
            raise RowError(f"wrong role order: {speaker} {after} (turn {position})")
        if is_empty(message["content"]) and "tool_calls" not in message:
            raise RowError(f"empty turn: turn {position} ({speaker}) says nothing")
        previous = speaker


def _message(value: Any, position: int) -> Message:
    if not isinstance(value, dict):
        raise RowError(f"wrong type: turn {position} is {_kind(value)}, not an object with role and content")
    if len(value) == 2:  # nearly all are one of these two
        if "content" in value and "role" in value and type(value["content"]) is str:
            return {"role": role(value["role"]), "content": value["content"]}
        if "value" in value and "from" in value and type(value["value"]) is str:
            return {"role": role(value["from"]), "content": value["value"]}
    lost = next((name for name in LOST if value.get(name) is not None), None)
    if lost is not None:
        raise RowError(f"field lost: {lost!r} of turn {position} would not reach the model")
    speaker = value.get("role", value.get("from"))
    if speaker is None:
        _missing(position, "role", value)
    made: Message = {"role": role(speaker), "content": _content(value, position)}
    made |= {name: value[name] for name in TOOL_FIELDS if value.get(name)}
    if "tool_calls" in made:
        made["tool_calls"] = _calls(made["tool_calls"], position)
    return made


def _calls(calls: Any, position: int) -> list[dict[str, Any]]:
    """Tool calls with their arguments as an object, which templates expect; some write them as JSON text."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise RowError(f"wrong type: the tool calls of turn {position} are not a list of objects")
    made = []
    for call in calls:
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(f"wrong type: a tool call of turn {position} names no function")
        if isinstance(function.get("arguments"), str):
            try:
                function = function | {"arguments": json.loads(function["arguments"])}
            except ValueError:
                raise RowError(f"wrong type: the arguments of a tool call of turn {position} are not JSON") from None
        made.append(call | {"function": function} if "function" in call else function)
    return made


def _find(markup: Markup, text: str) -> list[re.Match[str]]:
    """Where turns begin; none where the text does not begin as the markup does."""
    starts: list[re.Match[str]] = []
    for start in markup.start.finditer(text):
        # Elsewhere than after an instruction, "### Input:" is a heading of what is said.
        if start[1] != "Input" or (starts and starts[-1][1] == "Instruction"):
            starts.append(start)
    return starts if markup.name == "Alpaca" or _begins(markup, text) else []


def _begins(markup: Markup, text: str) -> bool:
    begun = text.lstrip()
    while opening := next((token for token in OPENING if begun.startswith(token)), None):
        if markup.start.match(begun):
            break
        begun = begun.removeprefix(opening).lstrip()
    return markup.start.match(begun) is not None


def _content(value: dict[str, Any], position: int) -> str:
    content = value.get("content", value.get("value"))
    if content is None and value.get("tool_calls"):
        return ""
    if content is None:
        _missing(position, "content", value)
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        other = [part.get("type") for part in content if part.get("type") != "text"]
        if other:
            raise RowError(f"wrong type: turn {position} has a part of type {other[0]!r}, not text")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise RowError(f"wrong type: what turn {position} says is {_kind(content)}, not text")
    return content


def _missing(position: int, name: str, value: dict[str, Any]) -> NoReturn:
    there = ", ".join(map(repr, value)) or "nothing"
    raise RowError(f"missing field: turn {position} has no {name!r}; it has {there}")


def _kind(value: Any) -> str:
    return type(value).__name__


def _split_system(speaker: str, content: str) -> list[Message]:
    """Llama 2 writes the system message inside the first user turn."""
    found = LLAMA_2_SYSTEM.match(content) if speaker == "user" else None
    if found is None:
        return [{"role": speaker, "content": content}]
    rest = content[found.end() :].strip()
    return [{"role": "system", "content": found[1].strip()}, {"role": "user", "content": rest}]


def _join_input(messages: list[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if message["role"] != "input":
            joined.append(message)
        elif message["content"] and joined:
            joined[-1] = joined[-1] | {"content": f"{joined[-1]['content']}\n\n{message['content']}"}
    return joined
