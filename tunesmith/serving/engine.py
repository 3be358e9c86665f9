"""An engine: a server of one model, as a process of its own on a loopback port.

It ends with the process that started it, however that ends.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from tunesmith.core import cpus
from tunesmith.core.errors import ServingError
from tunesmith.core.ready_rows import Message
from tunesmith.serving import engine_commands
from tunesmith.serving.engine_commands import LOOPBACK, Kind, Served
from tunesmith.serving.settings import Serve

ENDING = 10.0
"""Seconds that an engine may take to end before it is killed."""
PULSE = 10.0
"""Seconds in which an engine says that it is well. It does so while it generates, however long an answer gets."""
MISSES = 3
"""Times in a row that it did not, after which it is taken for dead: a busy machine may explain one."""
TIED = """
import ctypes, os, sys
parent, ending, *command = sys.argv[1:]
tie = getattr(ctypes.CDLL(None), "prctl", None)
if tie is not None:  # on Linux
    tie(1, int(ending))  # PR_SET_PDEATHSIG; it outlasts exec
if os.getppid() == int(parent):  # else the parent was gone before
    os.execv(command[0], command)
"""
"""A process that ends when its parent does. The parent's thread that starts it must live as long as it shall."""
ORPHANED: dict[Kind, signal.Signals] = {"transformers": signal.SIGKILL, "vllm": signal.SIGTERM}
"""What an engine gets when its parent is gone; vLLM has processes of its own to end."""


class Engine:
    """A running server. url: where, without /v1. The process belongs to whoever started it: `running` ends it."""

    def __init__(self, kind: Kind, name: str, command: list[str], port: int, folder: Path) -> None:
        self.kind, self.name, self.url = kind, name, f"http://{LOOPBACK}:{port}"
        self.missed = 0
        self.log = folder / "engine.log"
        tied = [sys.executable, "-c", TIED, str(os.getpid()), str(int(ORPHANED[kind])), *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tied,
                cwd=folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who end it when its requests have ended
            )

    def wait(self, seconds: float) -> None:
        """Until it answers. Raises ServingError where it ends or does not answer in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if self.is_well():
                return self.check()  # another's process may have taken the port
            time.sleep(0.1)
        raise ServingError(
            f"{self.name}: {self.kind} does not answer after {seconds:g} s; its last lines:\n{self.tail()}",
            fix="raise serve.start_seconds in params.yaml, or see what keeps it busy",
        )

    def check(self) -> None:
        """Raises ServingError where the process has ended."""
        if (code := self.process.poll()) is not None:
            raise ServingError(
                f"{self.name}: {self.kind} ended with status {code}; its last lines:\n{self.tail()}",
                fix="mend what they name; `serve.engine: transformers` in params.yaml serves everywhere",
            )

    def is_well(self) -> bool:
        """Whether its server says so in time: that a model behind it generates no more is not seen here."""
        try:
            return httpx2.get(f"{self.url}/health", timeout=PULSE, trust_env=False).is_success
        except httpx2.TransportError:
            return False

    def watch(self) -> None:
        """See whether it lives, now and then. Raises ServingError where it ended, or hangs: then it is killed."""
        self.check()
        self.missed = 0 if self.is_well() else self.missed + 1
        if self.missed == MISSES:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise ServingError(
                f"{self.name}: {self.kind} did not say {MISSES} times in a row that it is well, each time within "
                f"{PULSE:g} s, and was killed; its last lines:\n{self.tail()}",
                fix="see what it waits for where this comes again, such as a GPU, or memory that is swapped out",
            )

    def answer(self, prompt: list[Message], max_new_tokens: int, timeout: float) -> str:
        """The greedy answer to a conversation, its thoughts included. Raises ServingError where there is none."""
        asked = {"model": self.name, "messages": prompt, "max_tokens": max_new_tokens, "temperature": 0}
        try:
            reply = httpx2.post(f"{self.url}/v1/chat/completions", json=asked, timeout=timeout, trust_env=False)
            said = reply.raise_for_status().json()["choices"][0]["message"]
            return f"{said.get('reasoning_content') or ''} {said.get('content') or ''}".strip()
        except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            self.check()
            raise ServingError(
                f"{self.name}: {self.kind} gave no answer to a probe ({error!r}); its last lines:\n{self.tail()}",
                fix="mend what they name, or raise serve.start_seconds in params.yaml",
            ) from None

    def tail(self, lines: int = 12) -> str:
        text = self.log.read_text(errors="replace").replace("\r", "\n")
        told = [line for line in text.strip().splitlines() if "GET /health" not in line]  # that was us
        return "\n".join(f"    {line}" for line in told[-lines:]) or "    (none)"

    def stop(self) -> None:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, ending)
                self.process.wait(ENDING)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()


@contextmanager
def running(served: Served, settings: Serve) -> Iterator[Engine]:
    """An engine that serves the model, up and answering; it ends with the block. Raises ServingError."""
    with TemporaryDirectory(prefix="tunesmith-serve-") as scratch:
        folder, port = Path(scratch), _free_port()
        kind, command = engine_commands.choose(served, port, folder, settings)
        engine = Engine(kind, served.name, command, port, folder)
        try:
            engine.wait(settings.start_seconds)
            yield engine
        finally:
            engine.stop()


def _environment() -> dict[str, str]:
    """No hub, no telemetry, and no adapters beside the verified one."""
    inherited = {key: value for key, value in os.environ.items() if key != "VLLM_ALLOW_RUNTIME_LORA_UPDATING"}
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    return {**inherited, **cpus.environment(), **hub, "VLLM_NO_USAGE_STATS": "1"}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return int(taken.getsockname()[1])
