"""What the doctor finds, and how it asks other programs."""

import subprocess
from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line of `tunesmith doctor`. bad: something will not work. fix: what to do about it, unless it is good."""

    name: str
    level: Level
    says: str
    fix: str = ""


def answer(*command: str, seconds: float) -> str | None:
    """What a program prints, stripped; None where it is missing, fails, or takes longer."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
