"""On the host, a stage is a child of the process that DVC starts, which says how it ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_settings import write_params

from tunesmith.core.errors import ContainerError
from tunesmith.runtime import run

ROOT = Path(__file__).parents[2]


def test_on_the_host_a_stage_has_as_many_threads_as_usable_cpus_and_its_exit_status_is_kept(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "show.py").write_text(
        "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.getppid(), sys.argv[1:]); sys.exit(3)"
    )
    write_params(tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP")}
    command = [sys.executable, "-m", "tunesmith.runtime", "show", "a b"]
    environment |= {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [0]); os.execv({command[0]!r}, {command!r})"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.communicate()[0] == f"1 {process.pid} ['a b']\n"
        assert process.returncode == 3


def test_a_killed_stage_ends_in_an_error_that_names_the_entry_to_lower_and_takes_no_other_process_along(
    tmp_path: Path,
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "train_sft.py").write_text("import os; os.kill(os.getpid(), 9)")
    write_params(tmp_path)
    command = [sys.executable, "-m", "tunesmith.runtime", "train_sft", "small"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TUNESMITH_RERUN": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: train_sft@small was killed (SIGKILL): ")
    assert "in params.yaml, sft.small: lower batch_size or max_length, or take `weights: qlora`" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_process_that_dvc_started(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "wait.py").write_text("import time; print('started', flush=True); time.sleep(600)")
    write_params(tmp_path)
    command = [sys.executable, "-m", "tunesmith.runtime", "wait"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        assert process.stdout.read() == ""  # the stage has it too, and holds it open while it lives
    assert process.returncode == (128 + number if number == signal.SIGTERM else -number)


@pytest.mark.parametrize(
    ("status", "killed", "message"),
    [
        (137, 3, r"train_sft@x was killed \(SIGKILL\): this machine ran out of memory; its largest step takes about"),
        (137, 2, "as systems do when memory is short"),
        (139, 2, "train_sft@x was ended by SIGSEGV"),
    ],
)
def test_the_kernels_counter_and_the_journal_say_why(
    tmp_path: Path,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    killed: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "kills", lambda: killed)
    (tmp_path / "models" / ".x.partial").mkdir(parents=True)
    (tmp_path / "models" / "base").symlink_to(tiny_base)
    step = {"batch": 2, "length": 64, "completion": 0, "labelled": 0, "rollouts": 0, "group": 1, "reference": False}
    step |= {"rank": 4, "device": "cpu", "dtype_bytes": 4, "checkpointing": False}
    start = {"event": "start", "objective": "sft", "weights": "lora", "largest_step": step}
    (tmp_path / "models" / ".x.partial" / "training.jsonl").write_text(json.dumps(start) + "\n")
    with pytest.raises(ContainerError, match=message):
        run.check_status(status, "train_sft", ["x"], 2)


@pytest.mark.parametrize("status", [0, 1, 7, 130, 143])
def test_other_statuses_are_the_stages_own(status: int) -> None:
    assert run.check_status(status, "train_sft", ["x"], None) == status


def test_the_counter_of_killed_processes_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert run.kills(tmp_path / "none") is None
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 7\n")
    assert run.kills(tmp_path / "vmstat") == 7
