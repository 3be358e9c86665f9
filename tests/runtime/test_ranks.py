"""Several processes of a stage are started, ended and explained as one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tunesmith.core import params, ready_rows
from tunesmith.core.errors import ParamsError
from tunesmith.runtime import settings
from tunesmith.runtime.ranks import launch

STAGE = """
import os, signal, sys, time
from pathlib import Path
from tunesmith.core import console, processes
from tunesmith.core.errors import DataError

rank, ending = processes.rank(), sys.argv[1]
print("rank", rank, "of", processes.count(), os.environ["OMP_NUM_THREADS"], flush=True)
Path(f"pid{rank}").write_text(str(os.getpid()))
while not Path(f"pid{1 - rank}").exists():  # on a busy machine, one may be done before the other begins
    time.sleep(0.05)

def main():
    if ending == "well":
        return "done"
    if ending == "both":
        try:
            raise DataError("rows.jsonl: no rows", fix="give it some")
        finally:
            if rank == 0:
                time.sleep(1)
                Path("cleaned").touch()
    if ending == "first killed":
        if rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("connection reset by peer")
    if rank == 1 and ending == "refused":
        raise DataError("rows.jsonl: row 3 has no prompt", fix="give it one")
    if rank == 1 and ending == "crash":
        raise RuntimeError("a defect")
    if rank == 1 and ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

console.run(main)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made_up.py").write_text(STAGE)
    return tmp_path


def start(folder: Path, ending: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    variables = {settings.PROCESSES_VARIABLE: "2", "PYTHONPATH": os.pathsep.join([str(folder), root])}
    return subprocess.Popen(
        [sys.executable, "-m", settings.RANKS_MODULE, "made_up", ending],
        env=os.environ | variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks(folder: Path) -> list[int]:
    """The process IDs of both, once they run."""
    paths = [folder / "pid0", folder / "pid1"]
    for _ in range(1200):
        if all(path.exists() and path.read_text() for path in paths):
            return [int(path.read_text()) for path in paths]
        time.sleep(0.05)
    pytest.fail("no processes within a minute")


def wait_until_gone(process: int) -> None:
    for _ in range(600):
        stat = Path(f"/proc/{process}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {process} is left")


@pytest.mark.parametrize(
    ("ending", "status", "told", "count"),
    [
        ("refused", 1, "error: rows.jsonl: row 3 has no prompt\n  fix: give it one", 1),
        ("crash", 1, "RuntimeError: a defect\nprocess 2 of 2 ended with exit status 1, so all were ended", 1),
        ("killed", 137, "process 2 of 2 ended by SIGKILL, so all were ended", 1),
        ("first killed", 137, "process 1 of 2 ended by SIGKILL, so all were ended", 1),
        ("both", 1, "error: rows.jsonl: no rows\n  fix: give it some", 1),
        ("well", 0, "", 0),
    ],
)
def test_one_error_is_told_of_a_training_whose_processes_end(
    folder: Path, ending: str, status: int, told: str, count: int
) -> None:
    process = start(folder, ending)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    assert output.splitlines() == [line for line in ("rank 0 of 2 1", "done" if ending == "well" else "") if line]
    assert told in errors
    assert errors.count("Error:") + errors.count("error:") == (0 if "killed" in ending or ending == "well" else count)
    assert (folder / "cleaned").exists() == (ending == "both"), "the first process ends by itself"
    for path in folder.glob("pid*"):
        wait_until_gone(int(path.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(folder: Path, number: signal.Signals) -> None:
    process = start(folder, "sleep")
    left = ranks(folder)
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert errors == ""
    for each in left:
        wait_until_gone(each)


def test_there_are_as_many_processes_as_gpus_unless_params_say_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [launch.count(processes) for processes in ("auto", "1", "3")] == [4, 1, 3]
    assert [launch.count("auto", step, least) for step, least in ((8, 1), (6, 1), (2, 1), (4, 2), (5, 1))] == [
        4,
        3,
        2,
        2,
        1,
    ]
    with pytest.raises(ParamsError, match=r"runtime.processes is 5, and 4 GPUs are visible"):
        launch.count("5")


@pytest.mark.parametrize(
    ("stage", "entry", "expected"),
    [
        ("train_sft", {"batch_size": 4, "gradient_accumulation": 3}, (12, 1)),
        ("train_sft", {"batch_size": 4, "tokens_per_step": 9000}, (None, 1)),
        ("train_kto", {"batch_size": 8, "gradient_accumulation": 1}, (8, 2)),
        ("reference", {"batch_size": 8}, (None, 1)),
        ("train_grpo", {"prompts": 2, "group": 8, "rollouts": {"engine": "transformers"}}, (16, 1)),
        ("train_grpo", {"prompts": 2, "group": 8, "rollouts": {"engine": "vllm"}}, (1, 1)),
    ],
)
def test_a_step_is_read_from_the_effective_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, entry: dict[str, object], expected: object
) -> None:
    monkeypatch.chdir(tmp_path)
    section = "dpo" if stage == "reference" else stage.removeprefix("train_")
    ready_rows.write_json(params.resolved(stage, "mine"), {section: {"mine": entry}})
    assert launch.plan(stage, ["mine"]) == expected
    assert launch.plan(stage, ["another"]) == (None, 1)


@pytest.mark.parametrize(
    ("engine", "processes", "gpus_of_host", "gpus", "several"),
    [
        ("host", "auto", True, None, True),
        ("host", "auto", False, None, False),
        ("host", 1, True, None, True),
        ("host", 1, False, None, False),
        ("host", 2, False, None, True),
        ("docker", "auto", True, None, False),
        ("docker", "auto", False, "all", True),
    ],
)
def test_trainings_alone_take_several_processes(
    monkeypatch: pytest.MonkeyPatch, engine: str, processes: object, gpus_of_host: bool, gpus: object, several: bool
) -> None:
    monkeypatch.setattr(settings, "has_gpus", lambda: gpus_of_host)
    runtime = settings.Runtime.model_validate({"engine": engine, "processes": processes, "gpus": gpus})
    for stage in ("train_sft", "reference"):
        assert runtime.module(stage) == [*([settings.RANKS_MODULE] if several else []), f"stages.{stage}"]
    assert runtime.module("evaluate") == ["stages.evaluate"]
