"""A commit of this project, checked out in a folder of its own, in which its own code runs.

Code comes from there, libraries from the environment that this process runs in; the DVC cache and remotes are shared,
the team's tracker is not.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core import dvc_project, git, layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError

GRACE = 10.0
"""Seconds that what runs in a work tree has to end when it is told to."""
IMPORTED = "import stages, tunesmith; print([*stages.__path__][0], *tunesmith.__path__, sep='\\n')"
"""Prints where code is found first: `stages` is no package, so that what is installed comes after."""


@dataclass
class Worktree:
    """root: the project it is of. place: all of the tree. project: the project in it. keep: it stays at the end."""

    root: Path
    place: Path
    project: Path
    keep: bool

    @property
    def removal(self) -> str:
        """The command that takes it away."""
        return f"git worktree remove --force {self.place}"

    def bring(self, needed: list[Stage], known: list[Stage]) -> list[Path]:
        """Put there what these stages read and neither git nor another of them brings: data under `dvc add`, from cache
        or remote, and what lies in this project alone, whose paths are returned.

        Raises LineageError where something cannot be had.
        """
        tracked = [stage.target for stage in needed if not stage.runs]
        if tracked:
            self.run("dvc", "pull" if dvc_project.remotes(self.root) else "checkout", *tracked)
        brought = [path for path in dvc_project.sources(known, needed) if not (self.project / path).exists()]
        for path in brought:
            if not (self.root / path).exists():
                raise LineageError(
                    f"{path}: neither in git, nor under DVC, nor here", fix="put it there again, then `dvc add` it"
                )
            (self.project / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (self.root / path).is_dir() else shutil.copy2
            copy(self.root / path, self.project / path)
        return brought

    def check_imports(self) -> None:
        """Raises LineageError unless the code that runs there is the code that is there."""
        command = [sys.executable, "-c", IMPORTED]
        done = subprocess.run(
            command, cwd=self.project, env=self.environment(), capture_output=True, text=True, check=False
        )
        found = done.stdout.split("\n")[:-1]
        if done.returncode or found != [str(self.project / name) for name in ("stages", "tunesmith")]:
            raise LineageError(
                f"{self.project}: Python would run other code there: {', '.join(found) or done.stderr.strip()[-300:]}",
                fix="unset PYTHONPATH, and remove a copy of tunesmith that was not installed with --editable",
            )

    def run(self, module: str, *arguments: str) -> None:
        """Run a Python module there, its output on this terminal; it ends with the block that it was started in.

        Raises LineageError where it fails.
        """
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, cwd=self.project, env=self.environment(), start_new_session=True)
        try:
            status = process.wait()
        finally:
            _end(process)
        if status:
            raise LineageError(
                f"`{' '.join(['python', *command[1:]])}` failed in {self.project} (exit status {status})",
                fix="read what it says above",
            )

    def environment(self) -> dict[str, str]:
        """This process's own, in which `python` is this Python, imports begin at the folder, and MLflow is apart."""
        ours = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH" and name[:4] != "DVC_"}
        return ours | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.project / 'mlflow.db'}",
            "DVC_NO_ANALYTICS": "1",
            layout.RERUN_VARIABLE: "1",
        }


@contextmanager
def checked_out(root: Path, commit: str, *, into: Path | None, keep: bool) -> Iterator[Worktree]:
    """A work tree at ``into``, a new folder (by default a temporary one), removed at the end unless it says keep.

    Raises LineageError where it cannot be made.
    """
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise LineageError(f"{into}: is there already, and not empty", fix="name a new folder with --into")
    place = (into or Path(tempfile.mkdtemp(prefix="tunesmith-")) / root.name).resolve()
    tree = Worktree(root, place, git.check_out(root, commit, place), keep)
    try:
        dvc_project.share(root, tree.project)
        yield tree
    finally:
        if not tree.keep:
            git.remove(root, place)
            shutil.rmtree(place if into else place.parent, ignore_errors=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started, if it is still there: a `dvc` that is killed alone leaves its stage."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
