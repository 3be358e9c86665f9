"""The result of a check, and the output of other programs."""

import subprocess
from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line of `tunesmith doctor`. level: bad where something will not work. fix: empty for a good finding."""

    name: str
    level: Level
    says: str
    fix: str = ""


def answer(*command: str, seconds: float) -> str | None:
    """The standard output of a program, stripped; None where it is missing, fails, or takes longer than ``seconds``."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
