"""The result of a check, how it is shown, and the output of other programs."""

import subprocess
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

MARKS = {"good": ("✓", "green"), "warning": ("⚠", "yellow"), "bad": ("✗", "bold red")}
Level = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line of `tunesmith doctor`. level: bad where something will not work. fix: empty for a good finding."""

    name: str
    level: Level
    says: str
    fix: str = ""


def show(finding: Finding, console: Console) -> None:
    mark, style = MARKS[finding.level]
    console.print(Text.assemble((f"{mark} {finding.name}", style), f": {finding.says}"), soft_wrap=True)
    if finding.fix:
        console.print(Text(f"    fix: {finding.fix}"), soft_wrap=True)


def answer(*command: str, seconds: float) -> str | None:
    """The standard output of a program, stripped; None where it is missing, fails, or takes longer than ``seconds``."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
