import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.verifiers.sandbox import interpreter


def test_an_interpreter_below_a_virtual_environment_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    assert interpreter.executable() == Path("/bin/sh").resolve()
    version = SimpleNamespace(major=3, minor=99)
    monkeypatch.setattr(sys, "version_info", version)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3.99").touch()
    assert interpreter.executable() == tmp_path / "bin/python3.99"
