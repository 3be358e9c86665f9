"""Files that teams bring from a hosted fine-tuning service, recognised by name.

OpenAI's chat files hold `messages`, with `weight` 0 on turns that are not trained; its preference files `input`,
`preferred_output` and `non_preferred_output`; its reinforcement files `messages` that end with a question, beside
columns of any name to which the graders of a job refer, as {{item.reference_answer}}.
"""

from tunesmith.data.records import Fields

CHAT = {"messages", "tools", "parallel_tool_calls", "functions", "metadata"}
"""Columns of a chat file; the first is always there."""
PREFERENCE = {"input", "preferred_output", "non_preferred_output"}
REINFORCEMENT = {"messages", "tools", "response_format", "metadata"}
"""Columns of a reinforcement file that are no answer to compare with."""


def name(fields: Fields) -> str | None:
    """Return the name of the file that a row is from; None where it is from no such file."""
    prompt = fields.get("input")
    if fields.keys() >= PREFERENCE and isinstance(prompt, dict) and _last_role(prompt.get("messages")):
        return "OpenAI's preference file"
    last = _last_role(fields.get("messages"))
    if last == "assistant" and fields.keys() <= CHAT:
        return "OpenAI's chat file"
    return "OpenAI's reinforcement file" if answers(fields) else None


def answers(fields: Fields) -> list[str]:
    """Return the columns of a reinforcement file that may hold a right answer; none for any other file."""
    if _last_role(fields.get("messages")) not in ("user", "tool"):
        return []
    return [
        column
        for column, value in fields.items()
        if column not in REINFORCEMENT and type(value) in (str, int, float) and value != ""
    ]


def _last_role(messages: object) -> str | None:
    """The role of the last of OpenAI's messages; None for anything else."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return None
    role = messages[-1].get("role")
    return role if isinstance(role, str) else None
