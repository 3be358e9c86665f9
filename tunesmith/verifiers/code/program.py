"""Extract the program of a completion.

A completion is a whole program, which defines the function asked for, or continues the prompt, which ends inside that
function. Its code is its last fenced block that defines the function, else its last fenced block, else all of it up to
a closing fence. The sandbox finds out which of several readings compiles: the compiler itself can be made to crash. A
reading may leave out prose before a program, and nothing behind it: a text that goes on with what does not compile is
wrong, as it is to HumanEval.
"""

import re
import textwrap
from dataclasses import dataclass

FENCE = re.compile(r"^[ \t]*+```[ \t]*+(\w*+)[^\n]*+\n(.*?)(?:^[ \t]*+```|\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^(?:[ \t]+\S|(?:def|class|return|import|from|for|while|if|raise|pass|async)\b|@\w)", re.MULTILINE)
"""The start of a line of a program or of a function's body; a text without such a line is prose."""
START = re.compile(r"^(?:from|import|def|class|async|@)\b", re.MULTILINE)
"""The first line of a program that prose comes before."""
CLOSING = re.compile(r"^[ \t]*+```[ \t]*+$", re.MULTILINE)
"""The end of a block that a prompt opened."""


@dataclass(frozen=True)
class Program:
    """The possible readings of a program, and the code to run before it."""

    prelude: str
    """Code that runs before the program, if it compiles."""
    sources: list[str]
    """Readings of the program; the first that compiles runs."""


def extract(completion: str, entry: str) -> str | None:
    """The code of a completion that should define the function ``entry``; None for prose without code."""
    before, *behind = CLOSING.split(completion)
    if len(behind) == 1 and "```" not in before and (_definition(before, entry) or CODE.search(before)):
        completion = before
    blocks = [block for language, block in FENCE.findall(completion) if language.lower() in ("", "python", "py")]
    defining = [block for block in blocks if _definition(block, entry)]
    code = str((defining or blocks or [completion])[-1]).rstrip()
    return code if code and (blocks or _definition(code, entry) or CODE.search(code)) else None


def assemble(code: str, prompt: str, entry: str) -> Program:
    """The readings of code from `extract`: as a whole program, or as a continuation of the prompt."""
    definition = _definition(code, entry)
    if definition:
        start = START.search(code)
        first = start.start() if start else 0
        return Program(stub(prompt), list(dict.fromkeys([code, code[first:]])))
    if not prompt.endswith("\n") and not code.startswith("\n"):
        prompt += "\n"
    bodies = [code, f"    {code}", textwrap.indent(textwrap.dedent(code), "    ")]
    return Program("", [prompt + body for body in bodies if body.strip()] + [code])


def stub(prompt: str) -> str:
    """The prompt with an empty function at its end, for its imports and helpers."""
    return f"{prompt}\n    pass\n"


def _definition(code: str, entry: str) -> re.Match[str] | None:
    name = re.escape(entry)
    return re.search(rf"^(?:(?:async\s+)?def|class)\s+{name}\b|^{name}\s*[:=]", code, re.MULTILINE)
