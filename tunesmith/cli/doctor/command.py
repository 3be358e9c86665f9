"""`tunesmith doctor`: is everything here that a run needs? A line for each check, and what to do about it."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tunesmith.cli.doctor import machine, project
from tunesmith.cli.doctor.finding import Finding
from tunesmith.core import dvc_project
from tunesmith.core.errors import TunesmithError

LIMIT = 60.0
"""Seconds that all checks together may take."""
MARKS = {"good": ("✓", "green"), "warning": ("⚠", "yellow"), "bad": ("✗", "bold red")}

ROOT = Path()
Checks = dict[str, Callable[[], Finding]]
CHECKS: Checks = {
    "libraries": machine.python,
    "params": project.values,
    "git": lambda: project.checkout(ROOT.resolve()),
    "DVC": lambda: project.data_versions(ROOT.resolve()),
    "remote": lambda: project.remote(ROOT.resolve()),
    "disk": lambda: machine.disk(_places(ROOT.resolve())),
    "GPU": machine.gpu,
    "threads": machine.thread_pools,
    "sandbox": machine.code_sandbox,
    "engine": machine.engine,
    "tracker": project.tracker,
    "signing": project.keys,
    "base model": project.base_model,
}


def run() -> bool:
    """Print every finding; whether nothing is bad."""
    console, fine = Console(highlight=False), True
    for finding in examined(CHECKS, LIMIT):
        fine = fine and finding.level != "bad"
        mark, style = MARKS[finding.level]
        console.print(Text.assemble((f"{mark} {finding.name}", style), f": {finding.says}"), soft_wrap=True)
        if finding.fix:
            console.print(Text(f"    fix: {finding.fix}"), soft_wrap=True)
    return fine


def examined(checks: Checks, limit: float) -> Iterator[Finding]:
    """What each check finds, in order. They run at once; one that takes too long is left behind, and said to."""
    found: dict[str, Finding] = {}
    running = [
        threading.Thread(target=lambda name=name, check=check: found.update({name: _found(name, check)}), daemon=True)
        for name, check in checks.items()
    ]
    for thread in running:
        thread.start()
    deadline = time.monotonic() + limit
    for name, thread in zip(checks, running, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        late = Finding(name, "bad", f"no answer within {limit:g} seconds", "try it by itself; something hangs")
        yield found.get(name, late)


def _found(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except TunesmithError as error:
        return Finding(name, "bad", error.reason, error.fix)
    except Exception as error:  # a doctor who falls ill says so, and the others go on
        return Finding(name, "bad", f"could not be checked: {error!r}", "report it with this line")


def _places(root: Path) -> list[Path]:
    """Existing folders on every disk that is written to."""
    cache = dvc_project.cache(root) if (root / ".dvc").is_dir() else root
    return [root, next(place for place in (cache, *cache.parents) if place.exists())]
