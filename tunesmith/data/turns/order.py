"""The roles of turns, their order, and text that shows nothing."""

from collections.abc import Sequence

from tunesmith.core.ready_rows import Message, content_text
from tunesmith.data.records import RowError

CALLS = "calls"
"""The speaker of a turn of calls alone, which continues the assistant's turn before it."""
ROLES = {
    **dict.fromkeys(("user", "human", "instruction", "prompter", "[inst]"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "model", "bot", "chatgpt", "chatbot", "ai", "response", "[/inst]"), "assistant"
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("tool_result", "tool-response", "function-response", "tool_output"), "tool"),
    **dict.fromkeys(("tool_call", "function_call", "tool_calls", "function-call", "tool-call"), CALLS),
    "input": "input",
}
"""Role that each name stands for in a data set. Alpaca's `input` continues the user's turn."""
FOLLOWS = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool", "user"),
}
"""Roles that may follow each role."""
SPEAKERS = ("system", "user", "assistant", "tool")
"""Roles of the turns of ready rows."""
MOST = 2**16 - 1
"""The largest number of turns that is counted."""
INVISIBLE = " \t\n\r\v\f\xa0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff\xad"
"""White space and characters without a shape: a text of these alone is empty."""


def is_empty(text: str) -> bool:
    """Tell whether ``text`` has no visible character."""
    return not text[:1].isalnum() and not text.strip(INVISIBLE)


def role(name: object) -> str:
    """Return the role that a speaker's name stands for. Raises RowError for an unknown one."""
    known = ROLES.get(name) or ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if known is None:
        raise RowError(f"unknown role: {name!r}")
    return known


def count_speakers(messages: Sequence[Message]) -> tuple[int, ...]:
    """Return the number of turns of each of `SPEAKERS`, at most MOST."""
    speakers = [message["role"] for message in messages]
    return tuple(min(speakers.count(role), MOST) for role in SPEAKERS)


def check_order(messages: list[Message]) -> None:
    """Raise RowError unless user and assistant alternate after at most one system message, without an empty turn."""
    previous = "start"
    for position, message in enumerate(messages, start=1):
        speaker = message["role"]
        if speaker not in FOLLOWS[previous]:
            after = "at the start" if previous == "start" else f"after {previous}"
            raise RowError(f"wrong role order: {speaker} {after} (turn {position})")
        if is_empty(content_text(message)) and "tool_calls" not in message and speaker != "tool":
            raise RowError(f"empty turn: turn {position} ({speaker}) has no visible text")
        previous = speaker
