"""What git keeps: commits, and work trees of them. Nothing here changes a branch, the index or a tracked file."""

import re
import subprocess
from pathlib import Path

from tunesmith.core.errors import LineageError

SECONDS = 60.0
"""Longest that git may take to answer; checking a commit out may take longer."""


def root(folder: Path) -> Path | None:
    """The top of the checkout that a folder is in; None where it is in none."""
    found = _git(folder, "rev-parse", "--show-toplevel")
    return Path(found.decode().strip()) if found else None


def head(folder: Path) -> str | None:
    """The commit that is checked out; None outside of a checkout, and where nothing is committed yet."""
    found = _git(folder, "rev-parse", "--verify", "HEAD")
    return found.decode().strip() if found else None


def knows(folder: Path, commit: str) -> bool:
    """Whether the repository of ``folder`` has the commit, by its full hash."""
    return _is_hash(commit) and _git(folder, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def read(folder: Path, commit: str, name: str) -> bytes | None:
    """A file as it was at a commit, named from ``folder``; None where there was none."""
    return _git(folder, "show", f"{commit}:./{name}") if _is_hash(commit) else None


def clean(folder: Path) -> bool:
    """Whether all is committed. dvc.lock, which the pipeline writes, does not count (docs/decisions/005), nor does
    params.yaml, which the lineage holds whole (docs/decisions/024).
    """
    return _git(folder, "status", "--porcelain", "--", ".", ":!dvc.lock", ":!params.yaml") == b""


def check_out(folder: Path, commit: str, into: Path) -> Path:
    """A work tree of a commit; returns what ``folder`` is in it. Raises LineageError where git refuses."""
    hooks = ["-c", "core.hooksPath=/dev/null"]  # DVC's own would check data out before the cache is known
    command = ["git", *hooks, "worktree", "add", "--quiet", "--detach", str(into.resolve()), commit]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LineageError(
            f"{into}: no work tree of {commit[:12]}: {done.stderr.strip()}", fix="name another folder with --into"
        )
    top = root(folder)
    return into.resolve() / folder.resolve().relative_to(top.resolve() if top else folder.resolve())


def remove(folder: Path, tree: Path) -> None:
    """Take a work tree away, with all that is in it."""
    _git(folder, "worktree", "remove", "--force", "--force", str(tree.resolve()))


def _is_hash(commit: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit) is not None


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
