"""Read access to a git repository, and work trees of its commits. No branch, index or tracked file is changed."""

import re
import subprocess
from pathlib import Path

from tunesmith.core.errors import LineageError

SECONDS = 60.0
"""Timeout of a git command, in seconds; checking out a commit has none."""


def root(folder: Path) -> Path | None:
    """The top folder of the checkout that a folder is in; None outside of a checkout."""
    output = _git(folder, "rev-parse", "--show-toplevel")
    return Path(output.decode().strip()) if output else None


def head(folder: Path) -> str | None:
    """The commit that is checked out; None outside of a checkout, and before the first commit."""
    output = _git(folder, "rev-parse", "--verify", "HEAD")
    return output.decode().strip() if output else None


def knows(folder: Path, commit: str) -> bool:
    """Whether the repository of ``folder`` has the commit, by its full hash."""
    return _is_hash(commit) and _git(folder, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def read(folder: Path, commit: str, name: str) -> bytes | None:
    """The content of a file at a commit; ``name`` is relative to ``folder``. None where the commit has no such file."""
    return _git(folder, "show", f"{commit}:./{name}") if _is_hash(commit) else None


def clean(folder: Path) -> bool:
    """Whether everything is committed, apart from dvc.lock, which the pipeline writes (docs/decisions/005), and from
    params.yaml, which the lineage holds whole (docs/decisions/005).
    """
    return _git(folder, "status", "--porcelain", "--", ".", ":!dvc.lock", ":!params.yaml") == b""


def committed(folder: Path, paths: list[Path]) -> bool:
    """Whether these files, relative to ``folder``, are as they were committed; a missing one is."""
    return _git(folder, "status", "--porcelain", "--", *map(str, paths)) == b""


def check_out(folder: Path, commit: str, into: Path) -> Path:
    """Make a work tree of a commit, and return the path of ``folder`` in it. Raises LineageError where git refuses."""
    hooks = ["-c", "core.hooksPath=/dev/null"]  # DVC's hook would check out data before the tree knows the cache
    command = ["git", *hooks, "worktree", "add", "--quiet", "--detach", str(into.resolve()), commit]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LineageError(
            f"{into}: no work tree of {commit[:12]}: {done.stderr.strip()}", fix="name another folder with --into"
        )
    top = root(folder)
    return into.resolve() / folder.resolve().relative_to(top.resolve() if top else folder.resolve())


def remove(folder: Path, tree: Path) -> None:
    """Remove a work tree and everything in it."""
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
