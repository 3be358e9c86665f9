"""An engine: a server of one model, in a process of its own on a Unix socket that is closed to other users.

The process ends with the one that started it, however that one ends.
"""

import os
import signal
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
from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Message, Tool
from tunesmith.serving import engine_commands
from tunesmith.serving.attended import Attend, attended
from tunesmith.serving.engine_commands import EngineKind, ServedModel
from tunesmith.serving.settings import Serve

STOP_TIMEOUT = 10.0
"""Seconds that an engine gets to end after SIGTERM, before SIGKILL."""
HEALTH_TIMEOUT = 10.0
"""Timeout of a health check, in seconds. An engine answers them while it generates, however long that takes."""
MAX_MISSED = 3
"""Health checks missed in a row after which an engine counts as hung; a busy machine may explain fewer."""
TIED_PROCESS = """
import ctypes, os, sys
parent, ending, *command = sys.argv[1:]
tie = getattr(ctypes.CDLL(None), "prctl", None)
if tie is not None:  # on Linux
    tie(1, int(ending))  # PR_SET_PDEATHSIG; it outlasts exec
if os.getppid() == int(parent):  # else the parent was gone before
    os.execv(command[0], command)
"""
"""A script that runs a command which ends with its parent: with the parent's thread that starts it, to be exact."""
PARENT_DEATH_SIGNAL: dict[EngineKind, signal.Signals] = {"transformers": signal.SIGKILL, "vllm": signal.SIGTERM}
"""The signal that an engine gets when its parent is gone; vLLM must be able to end processes of its own."""


class Engine:
    """A running server, whose process belongs to the caller: `running` stops it."""

    def __init__(self, kind: EngineKind, name: str, command: list[str], socket: Path, folder: Path) -> None:
        self.kind, self.name, self.socket = kind, name, socket
        self._client = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://engine")
        self.missed_checks = 0
        """Health checks missed in a row."""
        self.log = folder / "engine.log"
        tied = [sys.executable, "-c", TIED_PROCESS, str(os.getpid()), str(int(PARENT_DEATH_SIGNAL[kind])), *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tied,
                cwd=folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must not reach it: it is stopped here after its last request
            )

    def wait_until_healthy(self, seconds: float) -> None:
        """Wait until the engine answers health checks. Raises ServingError where it ends or does not answer in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check_process()
            if self.is_healthy():
                return
            time.sleep(0.1)
        raise ServingError(
            f"{self.name}: {self.kind} does not answer after {seconds:g} s; its last lines:\n{self.tail()}",
            fix="raise serve.start_seconds in params.yaml, or find out what keeps it busy",
        )

    def check_process(self) -> None:
        """Raise ServingError if the process has ended."""
        if (code := self.process.poll()) is not None:
            raise ServingError(
                f"{self.name}: {self.kind} ended with status {code}; its last lines:\n{self.tail()}",
                fix="fix the error in those lines; where memory is short, end what else runs on the GPU, such as "
                "another `tunesmith serve`, or set serve.gpu_memory_share and serve.context_length in params.yaml; "
                "`serve.engine: transformers` there serves everywhere",
            )

    def is_healthy(self) -> bool:
        """Return whether the server passes a health check in time. A model that no longer generates goes unnoticed."""
        if not self.socket.exists():
            return False
        try:
            return self._client.get("/health", timeout=HEALTH_TIMEOUT).is_success
        except httpx2.TransportError:
            return False

    def check_health(self, silence: float, stall_seconds: float) -> None:
        """Check the process and its health, once a poll. Raises ServingError if it ended, or hung and was killed.

        silence: seconds since it generated something, of which ``stall_seconds`` are no fault.
        """
        self.check_process()
        self.missed_checks = 0 if self.is_healthy() else self.missed_checks + 1
        hung = None
        if silence > stall_seconds:
            hung = f"generated nothing for {silence:.0f} s (serve.stall_seconds: {stall_seconds:g})"
        elif self.missed_checks == MAX_MISSED:
            hung = f"missed {MAX_MISSED} health checks in a row, each with a timeout of {HEALTH_TIMEOUT:g} s,"
        if hung:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise ServingError(
                f"{self.name}: {self.kind} {hung} and was killed; its last lines:\n{self.tail()}",
                fix="if it happens again, find out what it waits for, such as a GPU, or memory that is swapped out",
            )

    def answer(
        self,
        prompt: list[Message],
        max_new_tokens: int,
        timeout: float,
        template_kwargs: TemplateKwargs | None = None,
        tools: list[Tool] | None = None,
    ) -> str:
        """Return the greedy answer to a conversation, its reasoning included. Raises ServingError without an answer.

        template_kwargs: values for variables of the chat template, where not its own.
        """
        request = {
            "model": self.name,
            "messages": list(map(_as_sent, prompt)),
            "max_tokens": max_new_tokens,
            "temperature": 0,
        }
        if tools:
            request["tools"] = tools
        if template_kwargs:
            request["chat_template_kwargs"] = template_kwargs
        try:
            reply = self._client.post("/v1/chat/completions", json=request, timeout=timeout)
            message = reply.raise_for_status().json()["choices"][0]["message"]
            return f"{message.get('reasoning_content') or ''} {message.get('content') or ''}".strip()
        except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            self.check_process()
            raise ServingError(
                f"{self.name}: {self.kind} gave no answer to a probe ({error!r}); its last lines:\n{self.tail()}",
                fix="fix the error in those lines, or raise serve.start_seconds in params.yaml; a prompt that is too "
                "long for vLLM needs a larger serve.context_length",
            ) from None

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
        self._client.close()


@contextmanager
def running(served: ServedModel, settings: Serve, attend: Attend | None = None) -> Iterator[Engine]:
    """Start an engine, wait until it is healthy, and yield it; it stops with the block. Raises ServingError.

    attend: called while this waits.
    """
    with TemporaryDirectory(prefix="tunesmith-serve-") as scratch:
        folder, address = Path(scratch), Path(scratch, "engine.sock")
        kind, command = engine_commands.choose(served, address, folder, settings)
        engine = Engine(kind, served.name, command, address, folder)
        try:
            attended(lambda: engine.wait_until_healthy(settings.start_seconds), attend)
            yield engine
        finally:
            engine.stop()


def _environment() -> dict[str, str]:
    """Return the environment of an engine: no hub, no telemetry, no adapters other than the verified one."""
    inherited = {key: value for key, value in os.environ.items() if key != "VLLM_ALLOW_RUNTIME_LORA_UPDATING"}
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    return {**inherited, **cpus.environment(), **hub, "VLLM_NO_USAGE_STATS": "1"}


def _as_sent(message: Message) -> dict[str, object]:
    """A turn as a request has it: reasoning in the field that engines pass on, and no mark of training."""
    sent = {name: value for name, value in message.items() if name not in ("reasoning", "train")}
    return sent | ({"reasoning_content": message["reasoning"]} if "reasoning" in message else {})
