"""Run every check of `tunesmith doctor` and print a line for each, with the fix where there is a problem."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from tunesmith.cli.doctor import engine, machine, project
from tunesmith.cli.doctor.finding import Finding, show
from tunesmith.core import dvc_project, layout
from tunesmith.core.errors import TunesmithError

TIMEOUT = 60.0
"""Timeout for all checks together, in seconds."""
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
    "containers": machine.containers,
    "engine": engine.vllm,
    "tracker": project.tracker,
    "signing": project.keys,
    "base model": project.base_model,
    "trainings": lambda: project.trainings(layout.home()),
}


def run() -> bool:
    """Print every finding; return whether none is bad."""
    console, is_good = Console(highlight=False), True
    for finding in run_checks(CHECKS, TIMEOUT):
        is_good = is_good and finding.level != "bad"
        show(finding, console)
    return is_good


def run_checks(checks: Checks, timeout: float) -> Iterator[Finding]:
    """The finding of each check, in order. Checks run in parallel; one that exceeds the timeout is reported as bad."""
    findings: dict[str, Finding] = {}
    threads = [
        threading.Thread(target=lambda name=name, check=check: findings.update({name: _run(name, check)}), daemon=True)
        for name, check in checks.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for name, thread in zip(checks, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        late = Finding(name, "bad", f"no answer within {timeout:g} seconds", "find out what hangs, by trying it alone")
        yield findings.get(name, late)


def _run(name: str, check: Callable[[], Finding]) -> Finding:
    """The finding of one check; an error is a bad finding."""
    try:
        return check()
    except TunesmithError as error:
        return Finding(name, "bad", error.reason, error.fix)
    except Exception as error:  # a fault of one check must not stop the others
        return Finding(name, "bad", f"could not be checked: {error!r}", "report this line as a defect")


def clear_checkpoints() -> None:
    """Remove the checkpoints of trainings that do not run now, and print a line for each."""
    for line in project.clear_checkpoints(layout.home()) or ["no checkpoints"]:
        print(line)


def _places(root: Path) -> list[Path]:
    """Existing folders on every disk that a run writes to."""
    cache = dvc_project.cache(root) if (root / ".dvc").is_dir() else root
    return [root, next(folder for folder in (cache, *cache.parents) if folder.exists())]
