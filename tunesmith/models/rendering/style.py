"""How a chat template wants reasoning and tool calls, found by rendering both, since templates do not say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunesmith.core.ready_rows import Message

KEYS = ("reasoning_content", "reasoning", "thinking")
"""Fields of a turn in which templates look for reasoning."""
CALL = {
    "type": "function",
    "id": "call00001",
    "function": {"name": "probe_name", "arguments": {"probe_key": "probe_value"}},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "probe",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "string", "description": "probe"}}},
    },
}
QUESTION = {"role": "user", "content": "?"}
TEXT = {"role": "user", "content": "probe_text"}
RESULT = {"role": "tool", "content": "probe_answer", "name": "probe_name", "tool_call_id": "call00001"}
CALLS: list[Any] = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT]


@dataclass(frozen=True)
class Style:
    """How a template wants its turns."""

    reasoning: str | None
    """The field for reasoning; None where it goes into the content, between tags."""
    text_arguments: bool
    """Whether the arguments of calls must be JSON text; else they are an object."""
    calls: bool
    """Whether the template writes calls and their results."""
    tools: bool
    """Whether the template writes which tools there are."""
    parts: bool = False
    """Whether the template writes a text only as a part of a content, as templates of some bases with images do."""


_styles: dict[str, Style] = {}


def of(tokenizer: PreTrainedTokenizerBase) -> Style:
    """Return the style of the tokenizer's template."""
    template = str(tokenizer.chat_template)
    if template not in _styles:
        text_arguments = not _writes_calls(tokenizer, text=False) and _writes_calls(tokenizer, text=True)
        _styles[template] = Style(
            reasoning=next((key for key in KEYS if _writes_reasoning(tokenizer, key)), None),
            text_arguments=text_arguments,
            calls=_writes_calls(tokenizer, text=text_arguments),
            tools="probe_tool" in "".join(rendered(tokenizer, [QUESTION], tools=[TOOL])),
            parts=_writes(tokenizer, _in_parts(TEXT)) and not _writes(tokenizer, TEXT),
        )
    return _styles[template]


def adapt(style: Style, messages: list[Message]) -> list[dict[str, Any]]:
    """Return messages as a template of this style wants them."""
    adapted = [dict(message) if len(message) == 2 else _adapt(style, message) for message in messages]
    return [_in_parts(message) for message in adapted] if style.parts else adapted


def in_parts(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose contents are texts as the template writes them: in parts, where it writes no other."""
    return [_in_parts(message) for message in messages] if of(tokenizer).parts else messages


def _adapt(style: Style, message: Message) -> dict[str, Any]:
    adapted: dict[str, Any] = {name: value for name, value in message.items() if name not in ("reasoning", "train")}
    if reasoning := message.get("reasoning"):
        if style.reasoning is not None:
            adapted[style.reasoning] = reasoning
        else:
            adapted["content"] = f"<think>\n{reasoning}\n</think>\n\n{message['content']}"
    if style.text_arguments and "tool_calls" in message:
        adapted["tool_calls"] = [_in_text(call) for call in adapted["tool_calls"]]
    return adapted


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return message | {"content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _writes(tokenizer: PreTrainedTokenizerBase, message: dict[str, Any]) -> bool:
    return any("probe_text" in text for text in rendered(tokenizer, [message]))


def _in_text(call: Any) -> Any:
    arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _writes_reasoning(tokenizer: PreTrainedTokenizerBase, key: str) -> bool:
    messages = [QUESTION, {"role": "assistant", "content": "!", key: "probe_thought"}]
    return any("probe_thought" in text for text in rendered(tokenizer, messages))


def _writes_calls(tokenizer: PreTrainedTokenizerBase, *, text: bool) -> bool:
    """Whether calls and their results are written, and written once: JSON text must not be encoded again."""
    call = _in_text(CALL) if text else CALL
    messages = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}, RESULT]
    return any(
        all(part in written for part in ("probe_name", "probe_key", "probe_value", "probe_answer"))
        and r"\"probe_key" not in written
        for written in rendered(tokenizer, [*messages, {"role": "assistant", "content": "!"}])
    )


def rendered(tokenizer: PreTrainedTokenizerBase, messages: list[Any], **settings: Any) -> Iterator[str]:
    """Yield the conversation as text; nothing where the template refuses it, in whatever way."""
    try:
        yield str(tokenizer.apply_chat_template(messages, tokenize=False, **settings))
    except Exception:  # a template is a program, which may fail in any way
        return
