"""Fixtures of the sandbox's tests: each tier that holds here, and the sandboxed processes that a test leaves behind."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from tunesmith.verifiers.sandbox import interpreter, tiers

MARK = "TUNESMITH_TEST"
"""An environment variable that identifies the sandboxed processes of a test."""


@pytest.fixture(params=get_args(tiers.Tier))
def tier(request: pytest.FixtureRequest) -> tiers.Tier:
    name: tiers.Tier = request.param
    reason = tiers.failure(name)
    if reason:
        pytest.skip(reason)
    return name


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The environment variable, as in /proc, of the sandboxed processes of this test."""
    monkeypatch.setitem(interpreter.VARIABLES, MARK, str(tmp_path))
    return f"{MARK}={tmp_path}"


@pytest.fixture
def running(mark: str) -> Callable[[], list[int]]:
    """The ids of the sandboxed processes of this test that run now."""
    return lambda: [pid for pid in _pids() if mark.encode() in _environ(pid)]


@pytest.fixture
def surviving(running: Callable[[], list[int]]) -> Callable[[], list[int]]:
    """The ids of the sandboxed processes that still run once killed ones have had time to go."""

    def wait() -> list[int]:
        deadline = time.monotonic() + 2
        while (pids := running()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return pids

    return wait


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
