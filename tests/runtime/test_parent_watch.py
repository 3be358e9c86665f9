"""DVC is the parent of the engine's process, and an engine whose DVC has ended is an orphan."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_settings import write_params

from tunesmith.runtime import (
    parent_watch,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_dvc_is_the_parent_of_the_process_that_waits_for_the_stage_whatever_the_shell(
    shell: str, dvc_project: Path
) -> None:
    (dvc_project / "stages").mkdir()
    (dvc_project / "stages" / "fetch.py").write_text(
        "import psutil; open('x', 'w').write('\\0'.join(psutil.Process().parent().parent().cmdline()))"
    )
    write_params(dvc_project)
    environment = os.environ | {"SHELL": shell, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dvc", "repro", "fetch"]
    subprocess.run(command, cwd=dvc_project, env=environment, check=True, capture_output=True)
    assert (dvc_project / "x").read_text().rstrip("\0").split("\0")[-4:] == command[-4:]


@pytest.mark.parametrize(
    ("stage", "group", "orphan"),
    [("fetch", "its own", False), ("fetch", "another", True), ("fetch", "none", True), (None, "another", False)],
)
def test_an_engine_whose_dvc_ended_before_it_looked_is_an_orphan(
    stage: str | None, group: str, orphan: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if stage:
        monkeypatch.setenv("DVC_STAGE", stage)
    with subprocess.Popen(["sleep", "60"], start_new_session=group != "its own") as started:
        if group == "none":
            started.kill()
            started.wait()
        try:
            assert parent_watch.is_gone(started.pid) is orphan
        finally:
            started.kill()
