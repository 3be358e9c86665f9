"""A server of models in a process of its own, on a Unix socket that is closed to other users.

The process ends with the one that started it, however that one ends.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from tunesmith.core import cpus
from tunesmith.core.errors import EngineError

STOP_TIMEOUT = 10.0
"""Seconds between SIGTERM and SIGKILL when a server is stopped."""
HEALTH_TIMEOUT = 10.0
"""Timeout of a health check, in seconds. A server answers them while it generates, however long that takes."""
MOST_CHARACTERS = 100
"""Maximum length of a socket's path; Linux allows 107 bytes."""
KEPT = ("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_LOGGING_LEVEL")
"""The only variables of vLLM that a server inherits."""
SECRET = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "ACCESS_KEY")
"""Substrings of the names of variables that a server does not inherit."""
TIED_PROCESS = """
import ctypes, os, sys
parent, ending, *command = sys.argv[1:]
tie = getattr(ctypes.CDLL(None), "prctl", None)
if tie is not None:  # on Linux
    tie(1, int(ending))  # PR_SET_PDEATHSIG; it outlasts exec
if os.getppid() == int(parent):  # else the parent was gone before
    os.execv(command[0], command)
"""
"""A script that runs a command which ends with its parent: strictly, with the thread that started it."""


class ServerProcess:
    """A running server, whose process belongs to the caller, who must `stop` it."""

    def __init__(
        self,
        name: str,
        command: list[str],
        socket: Path,
        folder: Path,
        *,
        fix: str,
        variables: Mapping[str, str] | None = None,
        parent_death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start ``command`` in ``folder``, which gets its log.

        name: of the server, for errors, whose fix is ``fix``. variables: environment variables beside `environment`.
        parent_death_signal: the signal that the server gets when its parent is gone. vLLM must be able to end its own
        child processes.
        """
        self.name, self.socket, self.fix = name, socket, fix
        self.http = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://engine")
        self.log = folder / "engine.log"
        tied = [sys.executable, "-c", TIED_PROCESS, str(os.getpid()), str(int(parent_death_signal)), *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tied,
                cwd=folder,
                env=environment() | {**(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must not reach it: it is stopped here after its last request
            )

    def wait_until_healthy(self, seconds: float, setting: str) -> None:
        """Wait until the server answers health checks. Raises EngineError where it ends, or is not healthy in time.

        setting: the param that holds ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check_process()
            if self.is_healthy():
                return
            time.sleep(0.1)
        raise EngineError(
            f"{self.name} does not answer after {seconds:g} s; its last lines:\n{self.tail()}",
            fix=f"raise {setting} in params.yaml, or find out what it waits for",
        )

    def check_process(self) -> None:
        """Raise EngineError if the process has ended."""
        if (code := self.process.poll()) is not None:
            raise EngineError(f"{self.name} ended with status {code}; its last lines:\n{self.tail()}", fix=self.fix)

    def is_healthy(self) -> bool:
        """Return whether the server passes a health check, which does not notice a model that no longer generates."""
        if not self.socket.exists():
            return False
        try:
            return self.http.get("/health", timeout=HEALTH_TIMEOUT).is_success
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """End the process and its children at once."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def tail(self, count: int = 12) -> str:
        """Return the last lines of the log, without those about health checks."""
        text = self.log.read_text(errors="replace").replace("\r", "\n")
        lines = [line for line in text.strip().splitlines() if "GET /health" not in line]
        return "\n".join(f"    {line}" for line in lines[-count:]) or "    (none)"

    def stop(self) -> None:
        """Stop the process and its children, by force after `STOP_TIMEOUT`."""
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, ending)
                self.process.wait(STOP_TIMEOUT)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.http.close()


@contextmanager
def socket_folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder that is closed to other users, with a path short enough for a socket in it."""
    short = len(tempfile.gettempdir()) + len(prefix) + len("xxxxxxxx/engine.sock") < MOST_CHARACTERS
    with TemporaryDirectory(prefix=prefix, dir=None if short else "/tmp") as folder:
        yield Path(folder)


def environment() -> dict[str, str]:
    """Return the environment of a server: no hub, no telemetry, no secrets, and none of vLLM's settings that change an
    answer.
    """
    inherited = {name: value for name, value in os.environ.items() if _is_passed_on(name)}
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    return {**inherited, **cpus.environment(), **hub, "VLLM_NO_USAGE_STATS": "1"}


def _is_passed_on(name: str) -> bool:
    return (not name.startswith("VLLM_") or name in KEPT) and not any(part in name.upper() for part in SECRET)
