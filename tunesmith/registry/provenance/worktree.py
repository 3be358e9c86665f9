"""A commit of this project checked out in a folder of its own, where that commit's code runs.

Code comes from that folder, libraries from this process's environment; so does the package where the folder does not
hold it, as in a project of `tunesmith init`. The DVC cache and remotes are shared; the team's tracker is not.
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

from tunesmith.core import dvc_project, fingerprint, git, layout, lineage
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError

GRACE = 10.0
"""Seconds that a process in a work tree has to end after SIGTERM."""
IMPORTED = "import stages, tunesmith; print([*stages.__path__][0], *tunesmith.__path__, sep='\\n')"
"""Prints the folders that imports come from; `stages` is a namespace package, whose first folder counts."""


@dataclass
class Worktree:
    """A work tree of git. root: the project of the commit. place: the tree's folder. project: the project's folder in
    it. keep: whether the tree stays at the end.
    """

    root: Path
    place: Path
    project: Path
    keep: bool

    @property
    def removal(self) -> str:
        """The command that removes the tree."""
        return f"git worktree remove --force {self.place}"

    def bring(self, needed: list[Stage], known: list[Stage]) -> list[Path]:
        """Bring the inputs of these stages that neither git nor another stage provides: data under `dvc add`, from
        cache or remote, and files and folders that only this project has, whose paths are returned. Of a folder that
        git has in part, these are the files that git ignores.

        Raises LineageError for an input that is nowhere.
        """
        tracked = [stage.target for stage in needed if not stage.runs]
        if tracked:
            self.run("dvc", "pull" if dvc_project.remotes(self.root) else "checkout", *tracked)
        missing: list[Path] = []
        for path in dvc_project.sources(known, needed):
            if not (self.project / path).exists():
                missing.append(path)
            elif (self.project / path).is_dir():
                missing += self._ignored(path, known)
        for path in missing:
            if not (self.root / path).exists():
                raise LineageError(
                    f"{path}: neither in git, nor under DVC, nor here", fix="restore it, then `dvc add` it"
                )
            (self.project / path).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (self.root / path).is_dir() else shutil.copy2
            copy(self.root / path, self.project / path)
        return missing

    def _ignored(self, folder: Path, known: list[Stage]) -> list[Path]:
        """The files of a folder that git ignores, no stage writes and the tree lacks; not those that tools leave."""
        return [
            file
            for file in git.ignored(self.root, folder)
            if not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
            and dvc_project.maker(known, file) is None
            and not (self.project / file).exists()
        ]

    def check_imports(self) -> None:
        """Raise LineageError unless Python imports the tree's own code there, or the package of this process where the
        tree has none.
        """
        package = self.project / "tunesmith" if lineage.holds_package(self.project) else fingerprint.PACKAGE
        command = [sys.executable, "-c", IMPORTED]
        done = subprocess.run(
            command, cwd=self.project, env=self.environment(), capture_output=True, text=True, check=False
        )
        origins = done.stdout.split("\n")[:-1]
        if done.returncode or origins != [str(self.project / "stages"), str(package)]:
            raise LineageError(
                f"{self.project}: Python would run other code there: {', '.join(origins) or done.stderr[-300:]}",
                fix="unset PYTHONPATH, and remove any copy of tunesmith that was installed without --editable",
            )

    def run(self, module: str, *arguments: str) -> None:
        """Run a Python module in the tree, with its output on this terminal; an interrupt here ends it.

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
                fix="read its output above",
            )

    def environment(self) -> dict[str, str]:
        """This process's variables, with this `python`, the tree's imports, its own tracker and no restored runs."""
        own = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH" and name[:4] != "DVC_"}
        return own | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.project / 'mlflow.db'}",
            "DVC_NO_ANALYTICS": "1",
            layout.RERUN_VARIABLE: "1",
            layout.PARTIAL_VARIABLE: "1",
        }


@contextmanager
def checked_out(root: Path, commit: str, *, into: Path | None, keep: bool) -> Iterator[Worktree]:
    """Check out a work tree at ``into``, a new folder (None: a temporary one), and remove it at the end unless kept.

    Raises LineageError where that fails.
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
    """End a process and all its children, if it still runs: killing `dvc` alone would leave its stage running."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
