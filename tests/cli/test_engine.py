"""`tunesmith engine`: what it prints, on an environment that is a folder with a marker."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunesmith.cli.main import main
from tunesmith.models.engines import environment, locks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that is installed, on a machine without a GPU, outside of any project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PATH", "/nowhere")
    folder = environment.place("cpu")
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    state = {"version": "0.32.0+cpu", "build": "cpu", "lock_digest": locks.digest("cpu"), "python": "bin/python"}
    (folder / "installed.json").write_text(json.dumps(state | {"torch": "2.13.0+cpu"}))
    return folder


@pytest.mark.parametrize("command", [["engine"], ["engine", "show"]])
def test_it_shows_which_environment_is_used_and_which_are_not(folder: Path, command: list[str]) -> None:
    other = folder.parent / "cpu-0123456789ab"
    other.mkdir()
    (other / "installed.json").write_text((folder / "installed.json").read_text())
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0
    used, rest = done.output.splitlines()
    assert used.startswith("✓ engine: vLLM 0.32.0+cpu for a CPU, of `tunesmith engine install`, sha256:")
    assert rest.startswith(f"  not used: {other}, ")


def test_a_named_engine_that_does_not_work_is_shown_with_its_fix_and_fails(folder: Path) -> None:
    Path("params.yaml").write_text(f"engine: {{python: {folder}/other}}\n")
    done = CliRunner().invoke(main, ["engine"])
    assert done.exit_code == 1
    assert f"✗ engine: params.yaml: engine.python: {folder}/other: No such file" in done.output
    assert "fix: name the Python of an environment with vLLM" in done.output


def test_what_is_installed_is_said_in_under_a_second_with_its_size(folder: Path) -> None:
    program = "from tunesmith.cli.main import main; main()"
    begin = time.monotonic()
    command = [sys.executable, "-c", program, "engine", "install"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    elapsed = time.monotonic() - begin
    first, second = done.stdout.splitlines()
    assert first == "vLLM 0.32.0+cpu for a CPU, with torch 2.13.0+cpu: was installed before"
    assert second.startswith(f"{folder}: ")
    assert second.endswith(f"from the lock sha256:{locks.digest('cpu')[:12]}")
    assert elapsed < 10, "a busy machine takes longer than the second that it is"
