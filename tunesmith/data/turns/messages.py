"""Lists of turns as data sets and APIs write them, turned into messages.

Forms of a turn: `role` and `content`, ShareGPT's `from` and `value`, Gemini's `role` and `parts`, and content in parts,
in which Anthropic, Bedrock and Gemini put calls, results and reasoning.
"""

import json
import re
from typing import NoReturn

from tunesmith.core.ready_rows import Message, ToolCall, content_text
from tunesmith.data.records import RowError
from tunesmith.data.turns import calls, fields, tags
from tunesmith.data.turns.fields import Raw, is_nothing
from tunesmith.data.turns.order import CALLS, is_empty, role

TEXT_TYPES = ("text", "input_text", "output_text")
RESULTS = ("tool", "function", "observation", "tool_response")
"""Speakers of results, which may be any JSON."""
PART_FIELDS = {"type", "text", "toolResult", "functionResponse"}
RESULT_IDS = ("tool_use_id", "toolUseId", "tool_call_id")


def from_list(values: list[object]) -> list[Message]:
    """Convert a list of turns to messages. Raises RowError for a malformed turn or an unknown role."""
    messages: list[Message] = []
    for position, value in enumerate(values, start=1):
        message = _plain(value)
        if message is not None:
            messages.append(message)
        else:
            _add(messages, value, position)
    if not messages:
        raise RowError("missing turns: the conversation has none")
    if messages[0]["role"] == "system" and len(messages) > 1 and is_empty(content_text(messages[0])):
        del messages[0]  # says nothing
    return messages


def _plain(value: object) -> Message | None:
    """Return a turn of a role and a text without tags, which nearly all are; None for any other."""
    if type(value) is not dict or len(value) != 2:
        return None
    speaker, content = ("role", "content") if "content" in value else ("from", "value")
    text = value.get(content)
    if type(text) is not str or speaker not in value:
        return None
    name = role(value[speaker])
    tagged = name == CALLS or (name in ("assistant", "tool", "system") and "<" in text)
    return None if tagged else {"role": name, "content": text}


def _add(messages: list[Message], value: object, position: int) -> None:
    """Add the messages of a turn: one, or several results of tools."""
    if not isinstance(value, dict):
        raise RowError(f"wrong type: turn {position} is {type(value).__name__}, not an object with role and content")
    fields.check(value, position)
    name = value.get("role", value.get("from"))
    if name is None:
        _missing(position, "role", value)
    speaker = role(name)
    parts = _Parts(value, position)
    if speaker == CALLS:
        _add_calls(messages, calls.from_list(parts.text, position) or parts.calls, fields.train(value, position))
        return
    if speaker == "tool" and not parts.results:
        message = _result(value, parts.text)
        messages += [message | {"content": text} for text in tags.results(parts.text)]
        return
    messages += parts.results
    made = _spoken(speaker, value, parts, position)
    if made["content"] or not parts.results:
        messages.append(made)


def _spoken(speaker: str, value: Raw, parts: "_Parts", position: int) -> Message:
    """Build the message of a turn that is no result of a tool."""
    message: Message = {"role": speaker, "content": parts.text}
    thoughts = fields.reasoning(value, position) or parts.reasoning
    if speaker == "assistant":
        if made := [*parts.calls, *_calls(value, position)]:
            message["tool_calls"] = made
        if thoughts:
            message["reasoning"] = thoughts
        message = tags.read(message)
    elif thoughts or parts.calls or _calls(value, position):
        raise RowError(f"wrong role: turn {position} is the {speaker}'s, and only an assistant reasons or calls tools")
    train = fields.train(value, position)
    if train is not None and speaker == "assistant":
        message["train"] = train
    elif train:
        raise RowError(f"wrong role: turn {position} is marked as trained, and only the assistant's turns can be")
    if name := value.get("name"):
        message["name"] = str(name)
    return message


def _add_calls(messages: list[Message], made: list[ToolCall], train: bool | None) -> None:
    """Add a turn of calls to the assistant's turn before it, which they belong to, or as a turn of their own."""
    last: Message = messages[-1] if messages else {"role": "", "content": ""}
    if last["role"] != "assistant":
        last = {"role": "assistant", "content": ""}
        messages.append(last)
    last["tool_calls"] = [*last.get("tool_calls", []), *made]
    if train is not None:
        last["train"] = train and last.get("train", True)


def _calls(value: Raw, position: int) -> list[ToolCall]:
    found = [value[name] for name in ("tool_calls", "function_call") if not is_nothing(value.get(name))]
    return [call for values in found for call in calls.from_list(values, position)]


def _result(value: Raw, text: str) -> Message:
    """Build a tool's turn."""
    message: Message = {"role": "tool", "content": text}
    if number := value.get("tool_call_id"):
        message["tool_call_id"] = str(number)
    if name := value.get("name") or value.get("tool_name"):
        message["name"] = str(name)
    return message


class _Parts:
    """The content of a turn: its text, and what parts of other kinds hold."""

    def __init__(self, value: Raw, position: int) -> None:
        self.calls: list[ToolCall] = []
        self.results: list[Message] = []
        self.reasoning = ""
        self._position = position
        content = value.get("content", value.get("value", value.get("parts")))
        if content is None and any(not is_nothing(value.get(name)) for name in ("tool_calls", "function_call")):
            content = ""
        if content is None:
            _missing(position, "content", value)
        if str(value.get("role", value.get("from"))).lower() in RESULTS and _is_data(content):
            content = json.dumps(content, ensure_ascii=False)
        if isinstance(content, dict):
            content = [content]
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            content = "".join(self._text(part) for part in content)
        if not isinstance(content, str):
            raise RowError(f"wrong type: the content of turn {position} is {type(content).__name__}, not text")
        self.text = content

    def _text(self, part: Raw) -> str:
        """Return the text of a part; what a part of another kind holds is kept apart."""
        held = {name: value for name, value in part.items() if name != "cache_control" and not is_nothing(value)}
        kind = held.pop("type", None)
        if kind in (None, *TEXT_TYPES) and len(held) <= 1 and held.keys() <= {"text", "value", "content"}:
            return self._string(next(iter(held.values()), None))
        match [kind, *held]:
            case [None, "cachePoint"] | ["redacted_thinking", *_]:
                return ""
            case [None, "thought", "text"] if held["thought"] is True:  # Gemini
                self.reasoning += self._string(held["text"])
            case ["thinking" | "reasoning", *_]:
                self.reasoning += self._string(held.get("thinking", held.get("text", held.get("reasoning"))))
            case [None, "reasoningContent"]:
                inner = held["reasoningContent"]
                inner = inner.get("reasoningText", inner) if isinstance(inner, dict) else {}
                self.reasoning += self._string(inner.get("text") if isinstance(inner, dict) else None)
            case ["tool_use" | "tool_call", *_]:
                self.calls.append(calls.call(held, self._position))
            case [None, "toolUse" | "functionCall" as name]:
                self.calls += calls.from_list(held[name], self._position)
            case ["tool_result", *_]:
                self._add_result(held)
            case [None, "toolResult"]:
                self._add_result(held["toolResult"])
            case [None, "functionResponse"]:
                self._add_result({"content": _response(held["functionResponse"])})
            case _:
                raise RowError(f"wrong type: turn {self._position} has a part of {_kind(kind, held)}, not text")
        return ""

    def _add_result(self, result: object) -> None:
        if not isinstance(result, dict):
            raise RowError(f"wrong type: a tool's result in turn {self._position} is no object")
        content = result.get("content", "")
        parts = content if isinstance(content, list) else [content]
        text = "".join(map(self._result_text, parts))
        message: Message = {"role": "tool", "content": text}
        number = next((result[name] for name in RESULT_IDS if result.get(name)), None)
        self.results.append({**message, "tool_call_id": str(number)} if number else message)

    def _result_text(self, part: object) -> str:
        if isinstance(part, dict) and "json" in part:
            return json.dumps(part["json"], ensure_ascii=False)
        return self._text(part) if isinstance(part, dict) else self._string(part)

    def _string(self, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise RowError(f"wrong type: a part of turn {self._position} is {type(value).__name__}, not text")
        return value


def _is_data(content: object) -> bool:
    """Tell a result that is any JSON from a text and from parts."""
    values = content if isinstance(content, list) else [content]
    parts = all(isinstance(value, dict) and value.keys() & PART_FIELDS for value in values)
    return isinstance(content, dict | list) and not parts


def _response(value: object) -> object:
    """Return what a function returned, in Gemini's form of a result, as text or as parts."""
    returned = value.get("response") if isinstance(value, dict) else value
    return returned if isinstance(returned, str) else [{"json": returned}]


def _kind(kind: object, held: Raw) -> str:
    named = f"type {kind!r}" if kind not in (None, *TEXT_TYPES) else f"the fields {', '.join(map(repr, held))}"
    types = [part.get("mimeType", part.get("mime_type")) for part in held.values() if isinstance(part, dict)]
    return f"{named} ({fields.UNSUPPORTED})" if re.search("audio|video", f"{kind} {[*held]} {types}") else named


def _missing(position: int, name: str, value: Raw) -> NoReturn:
    names = ", ".join(repr(held) for held in value if not is_nothing(value[held])) or "nothing"
    raise RowError(f"missing field: turn {position} has no {name!r}; it has {names}")
