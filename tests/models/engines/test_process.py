"""A server that does not start leaves an error with the end of its log, and no process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunesmith.core.errors import EngineError
from tunesmith.models.engines import process
from tunesmith.models.engines.process import ServerProcess


@contextmanager
def running(script: str, folder: Path, seconds: float = 2.0) -> Iterator[ServerProcess]:
    """Run a Python script as a server until it is healthy, and stop it."""
    server = ServerProcess("a server", [sys.executable, "-c", script], folder / "engine.sock", folder, fix="restart it")
    try:
        server.wait_until_healthy(seconds, "serve.start_seconds")
        yield server
    finally:
        server.stop()


def test_the_error_of_a_server_that_ends_at_its_start_quotes_the_end_of_its_log(tmp_path: Path) -> None:
    script = "print(*range(100), sep='\\n'); print('GET /health 200\\n' * 100); raise SystemExit('CUDA out of memory')"
    server = running(script, tmp_path, seconds=30)
    with pytest.raises(EngineError, match=r"(?s)ended with status 1.* 99\n *\n +CUDA out of memory") as error, server:
        pass
    assert " 50\n" not in str(error.value)


def test_a_server_that_never_answers_is_stopped_after_the_timeout(tmp_path: Path) -> None:
    script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    server = running(script, tmp_path)
    with pytest.raises(EngineError, match="does not answer after 2 s") as error, server:
        pass
    assert "serve.start_seconds" in error.value.fix
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
    server = running(script + "while True: time.sleep(1)", tmp_path)
    with pytest.raises(EngineError, match="deaf"), server:
        pass


def test_a_server_may_load_no_adapters_unless_it_was_started_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in process.environment()
