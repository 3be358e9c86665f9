"""An engine that does not start leaves an error with the end of its log, and no process."""

import os
import sys
from pathlib import Path

import pytest
from serving_settings import SETTINGS

from tunesmith.core.errors import ServingError
from tunesmith.serving import engine, engine_commands
from tunesmith.serving.engine_commands import ServedModel


def run_script(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Run a Python script instead of an engine."""
    command = [sys.executable, "-c", script]
    monkeypatch.setattr(engine_commands, "choose", lambda *_: ("transformers", command))


def test_the_error_of_an_engine_that_ends_at_its_start_quotes_the_end_of_its_log(
    adapter: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "print(*range(100), sep='\\n'); print('GET /health 200\\n' * 100); raise SystemExit('CUDA out of memory')"
    run_script(monkeypatch, script)
    running = engine.running(adapter, SETTINGS)
    with pytest.raises(ServingError, match=r"(?s)ended with status 1.* 99\n *\n +CUDA out of memory") as error, running:
        pass
    assert " 50\n" not in str(error.value)


def test_an_engine_that_never_answers_is_stopped_after_the_timeout(
    adapter: ServedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    run_script(monkeypatch, f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    settings = SETTINGS.model_copy(update={"start_seconds": 2.0})
    with pytest.raises(ServingError, match="does not answer after 2 s"), engine.running(adapter, settings):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_an_engine_that_ignores_sigterm_is_killed(adapter: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STOP_TIMEOUT", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
    run_script(monkeypatch, script + "while True: time.sleep(1)")
    settings = SETTINGS.model_copy(update={"start_seconds": 2.0})
    with pytest.raises(ServingError, match="deaf"), engine.running(adapter, settings):
        pass
