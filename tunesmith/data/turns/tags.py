"""Reasoning, tool calls, results and tools that the text of a turn marks with tags, as Qwen and Hermes write them."""

import re

from tunesmith.core.ready_rows import Message, Tool, ToolCall, content_text, split_reasoning
from tunesmith.data.records import RowError
from tunesmith.data.turns import calls

CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
RESULT = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
TOOLS = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)
HERMES = re.compile(r"\s*You are a function calling AI model\..*<tools>.*", re.DOTALL)
"""The instruction of Hermes' data sets, with which their system messages end and which a template writes itself."""


def read(message: Message) -> Message:
    """Return an assistant's turn with what its text marks as reasoning and calls in fields of their own.

    Raises RowError for a malformed call, and for reasoning in the text that is not that of the field.
    """
    content = content_text(message)
    if message["role"] != "assistant" or "<" not in content:
        return message
    reasoning, content = split_reasoning(content)
    given = message.get("reasoning", reasoning)
    if reasoning and given != reasoning:
        raise RowError("field lost: a turn has reasoning in a field and in its text, and they differ")
    content, made = _calls(content)
    changed: Message = {**message, "content": content}
    if given:
        changed["reasoning"] = given
    if made:
        changed["tool_calls"] = [*message.get("tool_calls", []), *made]
    return changed


def _calls(text: str) -> tuple[str, list[ToolCall]]:
    """Take the calls out of a text; return the rest and the calls."""
    blocks = CALL.findall(text)
    if not blocks:
        return text, []
    try:
        values = [value for block in blocks for value in calls.listed(calls.load_many(block))]
    except ValueError:
        raise RowError("wrong type: a <tool_call> holds no JSON") from None
    return CALL.sub("", text).strip(), calls.from_list(values)


def results(text: str) -> list[str]:
    """Return the results of tools that a text marks; the text itself where it marks none."""
    return RESULT.findall(text) or [text]


def tools(system: str) -> tuple[str, list[Tool]]:
    """Take the tools out of a system message in Hermes' words, and those words with them.

    Returns the rest of the message and the tools. A message in other words stays as it is, since a template could not
    say it in the same.
    """
    if not HERMES.search(system):
        return system, []
    try:
        values = [value for block in TOOLS.findall(system) for value in calls.listed(calls.load_many(block))]
        found = calls.definitions(values)
    except (ValueError, RowError):
        return system, []
    return (HERMES.sub("", system).strip(), found) if found else (system, [])
