"""The program that a completion stands for.

A completion answers with a whole program, which defines the function asked for, or continues the prompt, which ends
inside that function. Its code is its last fenced block that defines the function, else its last fenced block, else all
of it. Which of the readings compiles is found out in the sandbox: the compiler itself can be made to crash.
"""

import re
import textwrap
from dataclasses import dataclass

FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^(?:[ \t]+\S|(?:def|class|return|import|from|for|while|if|raise|pass|async)\b|@\w)", re.MULTILINE)
"""What a line of a program or of a body begins with; a text without one is words."""
START = re.compile(r"^(?:from|import|def|class|async|@)\b", re.MULTILINE)
"""The first line of a program that words come before."""
AFTER = re.compile(r"^[^\s#)\]}]", re.MULTILINE)
"""The first line that is no longer part of an indented body."""


@dataclass(frozen=True)
class Program:
    """prelude: what runs before it if it compiles. sources: readings, of which the first that compiles runs."""

    prelude: str
    sources: list[str]


def extract(completion: str, entry: str) -> str | None:
    """The code in a completion, or None."""
    blocks = [block for language, block in FENCE.findall(completion) if language.lower() in ("", "python", "py")]
    defining = [block for block in blocks if _definition(block, entry)]
    code = str((defining or blocks or [completion])[-1]).rstrip()
    return code if code and (blocks or _definition(code, entry) or CODE.search(code)) else None


def assemble(code: str, prompt: str, entry: str) -> Program:
    """The readings of the code that `extract` found, as a whole program or as one that continues the prompt."""
    definition = _definition(code, entry)
    if definition:
        start = START.search(code)
        words_before = start.start() if start else 0
        return Program(stub(prompt), [code, code[words_before:], code[words_before : _end(code, definition.end())]])
    if not prompt.endswith("\n") and not code.startswith("\n"):
        prompt += "\n"
    bodies = [code, code[: _end(code, 0)], f"    {code}", textwrap.indent(textwrap.dedent(code), "    ")]
    return Program("", [prompt + body for body in bodies if body.strip()] + [code])


def stub(prompt: str) -> str:
    """The prompt with an empty function at its end: its imports and helpers."""
    return f"{prompt}\n    pass\n"


def _definition(code: str, entry: str) -> re.Match[str] | None:
    name = re.escape(entry)
    return re.search(rf"^(?:(?:async\s+)?def|class)\s+{name}\b|^{name}\s*[:=]", code, re.MULTILINE)


def _end(code: str, position: int) -> int:
    """Where the indented lines after a position end."""
    after = AFTER.search(code, position)
    return after.start() if after else len(code)
