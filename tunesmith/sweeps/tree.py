"""A copy of the project in which the trials of a sweep run, one after the other, and are saved as DVC experiments.

It is a work tree of git with the project's cache, in DVC's own folder of temporary experiments: a training there finds
its checkpoints in the project, and MLflow's runs are the project's.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import yaml

from tunesmith.core import dvc_project, files, git, journal, layout, params, params_text, ready_rows
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError
from tunesmith.core.journal import Event
from tunesmith.registry.provenance import worktree
from tunesmith.registry.provenance.worktree import Worktree
from tunesmith.runtime import finished_runs
from tunesmith.runtime.staging import STAGING
from tunesmith.sweeps.plan import Plan

TREES = Path(*layout.EXPERIMENTS, "tunesmith")
"""The folder of the copies."""
METRIC = layout.REPORTS / "trial" / "validation.json"
"""What a trial measured, for `dvc exp show`."""
SCORES = layout.REPORTS / "metrics.json"
"""The project's scores of other models, which `dvc exp show` would show beside a trial's validation result."""
NOTHING, NO_FILES = b"{}", b"[]"
"""The content of that file in a trial, and a folder without files as DVC's cache has it."""
NEVER = "none yet"
"""The command that dvc.lock records for a stage that made nothing."""
UNCHANGED = "fingerprint"
"""A stage whose outputs are the same in every trial."""
GRACE = {signal.SIGINT: 30.0, signal.SIGTERM: 10.0, signal.SIGKILL: 10.0}
"""The seconds that a trial has to end after each signal: first that of Ctrl-C, by which stages end cleanly."""


@dataclass
class Run:
    """A trial that runs: `dvc repro` in a process group of its own, whose output goes to a file."""

    process: "subprocess.Popen[bytes]"
    output: BinaryIO
    folder: Path
    model: str
    target: str

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll()

    def events(self) -> list[Event]:
        """The events of the training so far, which may run in a container or on a cluster."""
        partial = layout.MODELS / f".{self.model}.partial"
        staged = STAGING / self.target / partial
        for place in (partial, staged, layout.MODELS / self.model):
            with suppress(FileNotFoundError):
                return journal.read(self.folder / place / journal.NAME)
        return []

    def end(self) -> None:
        """End what still runs, with all that it started."""
        for number, seconds in GRACE.items():
            if self.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(seconds)
        self.output.close()


@dataclass(frozen=True)
class Tree:
    """A copy of the project for one training.

    target: its stage. text: that of the project's params.yaml as the sweep began. lock: the dvc.lock that each
    trial begins with. logs: the folder of the trials' output. devices: the GPUs of the trials, as CUDA_VISIBLE_DEVICES
    lists them; None: all.
    """

    tree: Worktree
    target: str
    model: str
    text: str
    lock: str
    logs: Path
    devices: str | None = None

    def start(self, name: str, values: Mapping[str, object]) -> Run:
        """Start a trial whose params are those of the project but for ``values``, by place in params.yaml."""
        here = self.tree.project
        partial = layout.MODELS / f".{self.model}.partial"
        for folder in (layout.MODELS / self.model, partial, STAGING / self.target / partial):  # of the trial before
            shutil.rmtree(here / folder, ignore_errors=True)
        files.write_text(here / params.PATH, params_text.with_values(self.text, values))
        files.write_text(here / finished_runs.DVC_LOCK, self.lock)
        self.logs.mkdir(parents=True, exist_ok=True)
        output = (self.logs / f"{name}.log").open("wb")
        command = [sys.executable, "-m", "dvc", "repro", self.target]
        process = subprocess.Popen(
            command,
            cwd=here,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Run(process, output, here, self.model, self.target)

    def save(self, name: str, metric: Mapping[str, object], *, whole: bool) -> None:
        """Save the trial that ran last as the DVC experiment ``name``. whole: whether it ran to its end.

        Raises LineageError where DVC refuses.
        """
        here = self.tree.project
        if whole:
            finished_runs.remember(here)
        else:  # DVC would take what lies there for the trial's output
            shutil.rmtree(here / layout.MODELS / self.model, ignore_errors=True)
        ready_rows.write_json(here / METRIC, metric)
        command = [sys.executable, "-m", "dvc", "exp", "save", "--force", "--name", name]
        done = subprocess.run(
            # DVC commits what lies at the outputs of the stage that is named; without a name, at those of all.
            [*command, "--include-untracked", str(METRIC), self.target if whole else UNCHANGED],
            cwd=here,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LineageError(
                f"{name}: DVC could not save it: {(done.stdout + done.stderr).strip()[-500:]}",
                fix="correct that, then run the sweep again: it goes on",
            )

    def failure(self, name: str) -> str:
        """The reason of a trial that failed, from its output, which also has the fix."""
        path = self.logs / f"{name}.log"
        # A progress bar, which ends in a bracket, may stand before it on its line.
        *_, error = ("", *re.split(r"[\n\]]error: ", path.read_text(errors="replace"))[1:])
        return re.split(r"\n +fix: |\nERROR: failed to reproduce", error)[0].strip() or f"see {path}"

    def _environment(self) -> dict[str, str]:
        """This process's variables, with this `python`. Unlike `reproduce`, trials have a tracker and restore runs."""
        own = {name: value for name, value in self.tree.environment().items() if name != layout.RERUN_VARIABLE}
        own["MLFLOW_TRACKING_URI"] = os.environ.get("MLFLOW_TRACKING_URI", "")
        return own | ({} if self.devices is None else {"CUDA_VISIBLE_DEVICES": self.devices})


def prepare(root: Path, target: str) -> list[Stage]:
    """Bring all that a training reads up to date in the project itself; return its stages. The training is not run.

    Raises LineageError where `dvc repro` fails.
    """
    known = dvc_project.stages(root)
    last = next(stage for stage in known if stage.target == target)
    needed = dvc_project.upstream(known, last)
    targets = [stage.target for stage in needed if stage.runs and stage is not last]
    if subprocess.run([sys.executable, "-m", "dvc", "repro", *targets], cwd=root, check=False).returncode:
        raise LineageError(f"what {target} reads could not be brought up to date", fix="read the output above")
    finished_runs.remember(root)
    return needed


@contextmanager
def laid(root: Path, place: str, plan: Plan, logs: Path, devices: str | None = None) -> Iterator[Tree]:
    """Make a copy named ``place``, with all that `prepare` brought up to date, and remove it at the end.

    Raises LineageError where git or DVC refuse, and BusyError where a trial of a killed sweep still runs in it.
    """
    into = root.resolve() / TREES / place
    if into.exists():  # of a sweep that was killed
        top = git.root(root) or root
        with files.only_writer(into / root.resolve().relative_to(top.resolve()) / layout.MODELS / plan.entry):
            pass
        shutil.rmtree(into, ignore_errors=True)
    git.remove(root, into)  # git may know it still
    into.parent.mkdir(parents=True, exist_ok=True)
    known = dvc_project.stages(root)
    needed = dvc_project.upstream(known, next(stage for stage in known if stage.target == plan.target))
    with worktree.checked_out(root.resolve(), plan.commit, into=into, keep=False) as copy:
        lock = _lock(root, known)
        files.write_text(copy.project / finished_runs.DVC_LOCK, lock)
        made = [stage.target for stage in needed[:-1] if stage.runs]
        _quietly([sys.executable, "-m", "dvc", "checkout", "--quiet", *made], copy)
        copy.bring(needed, known)
        copy.check_imports()
        yield Tree(copy, plan.target, plan.entry, plan.text, lock, logs, devices)


def _lock(root: Path, known: list[Stage]) -> str:
    """The project's dvc.lock without scores, and with nothing as the outputs of stages that never ran.

    `dvc exp apply` fails where the lock lacks an output of dvc.yaml. `dvc repro` runs the filled-in stages all the
    same, since their commands differ.
    """
    document = yaml.safe_load((root / finished_runs.DVC_LOCK).read_text())
    nothing = {"hash": "md5", "md5": dvc_project.add(root, NOTHING), "size": len(NOTHING)}
    no_files = {"hash": "md5", "md5": dvc_project.add(root, NO_FILES, ".dir"), "size": 0, "nfiles": 0}
    stages = document["stages"]
    for entry in stages.values():
        for out in entry.get("outs", []):
            if out["path"] == str(SCORES):
                out |= nothing
                entry["cmd"] = NEVER
    for stage in known:
        if stage.runs and stage.target not in stages:
            outs = [{"path": str(out), **(nothing if out.suffix else no_files)} for out in stage.outs]
            stages[stage.target] = {"cmd": NEVER, "outs": outs}
    return yaml.safe_dump(document, sort_keys=False)


def _quietly(command: list[str], copy: Worktree) -> None:
    done = subprocess.run(
        command, cwd=copy.project, env=copy.environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LineageError(f"`{' '.join(command[2:4])}` failed: {done.stderr.strip()[-500:]}", fix="correct that")
