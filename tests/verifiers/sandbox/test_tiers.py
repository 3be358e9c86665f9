import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import cheating_programs, hostile_programs
from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.code import verifier as code
from tunesmith.verifiers.sandbox import interpreter, tiers

LIMITS = tiers.Limits(seconds=0.7, memory=256 << 20)
Bait = dict[str, str | int]
Pids = Callable[[], list[int]]


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[Bait]:
    """Files, ports and sockets outside the sandbox, which the programs receive and try to reach."""
    secret, folder, name = tmp_path / "secret", tmp_path / "folder", f"tunesmith-{os.getpid()}"
    secret.write_text("secret")
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            unix = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            unix.bind(f"\0{name}{'' if kind == socket.SOCK_STREAM else '-datagrams'}")
            if kind == socket.SOCK_STREAM:
                unix.listen()
        yield {
            "secret": str(secret),
            "folder": str(folder),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": name,
            "datagrams": f"{name}-datagrams",
        }


def row(argument: object, layout: str, expected: str) -> code.Columns:
    """A row whose program must return ``expected`` for ``argument``, by a case or by a test."""
    if layout == "cases":
        return {"entry_point": "attempt", "cases": [{"args": [argument], "expected": expected}]}
    test = f"def check(candidate):\n    assert candidate({argument!r}) == {expected!r}\n"
    return {"entry_point": "attempt", "test": test}


@pytest.mark.parametrize("name", hostile_programs.BREAKS)
def test_a_hostile_program_reaches_nothing_outside(
    name: str, tier: tiers.Tier, bait: Bait, tmp_path: Path, surviving: Pids
) -> None:
    verdict = code.grade(hostile_programs.BREAKS[name], row(bait, "cases", "escaped"), tier, LIMITS)
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
    assert not surviving()
    assert_untouched(bait, tmp_path)


@pytest.mark.parametrize("name", hostile_programs.HARMLESS)
def test_without_a_sandbox_the_same_programs_succeed(name: str, bait: Bait) -> None:
    program = f"{hostile_programs.BREAKS[name]}\nprint(attempt({bait!r}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert result.stdout == "escaped\n", result.stderr


@pytest.mark.parametrize("name", hostile_programs.BOMBS)
def test_bombs_end_in_time_and_leave_nothing(
    name: str, tier: tiers.Tier, bait: Bait, tmp_path: Path, surviving: Pids
) -> None:
    began = time.monotonic()
    verdict = code.grade(hostile_programs.BOMBS[name], row(bait, "cases", "escaped"), tier, LIMITS)
    assert time.monotonic() - began < LIMITS.seconds + 1
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
    assert not surviving()
    assert_untouched(bait, tmp_path)


@pytest.mark.parametrize("layout", ["cases", "test"])
@pytest.mark.parametrize("name", cheating_programs.CHEATS)
def test_a_program_cannot_return_an_answer_that_it_never_got(
    name: str, layout: str, tier: tiers.Tier, surviving: Pids
) -> None:
    began = time.monotonic()
    verdict = code.grade(cheating_programs.CHEATS[name], row(3, layout, cheating_programs.TOKEN), tier, LIMITS)
    assert time.monotonic() - began < LIMITS.seconds + 1
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
    assert cheating_programs.TOKEN not in str(verdict.answer)
    assert not surviving()


def assert_untouched(bait: Bait, tmp_path: Path) -> None:
    secret = Path(str(bait["secret"]))
    assert secret.read_text() == "secret"
    assert secret.stat().st_mode & 0o777 != 0o777
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "secret"]
    for folder in (str(bait["folder"]), "/", "/dev/shm", tempfile.gettempdir()):
        assert not Path(folder, "hostile").exists()
    assert not list(Path(str(bait["folder"])).iterdir())


def test_a_program_has_the_standard_library_and_no_installed_package(tier: tiers.Tier) -> None:
    packages = [
        pytest.__file__,
        *(str(path) for folder in interpreter.hidden() for path in [*folder.glob("**/*.py")][:1]),
    ]
    program = """
import ctypes, decimal, json, lzma, sqlite3, ssl, unittest
def attempt(paths):
    found = 0
    for path in paths:
        try:
            open(path).read()
            found += 1
        except OSError:
            pass
    return found
"""
    assert code.grade(program, row(packages, "cases", 0), tier, LIMITS).score == 1


def test_a_program_cannot_list_the_project(tier: tiers.Tier) -> None:
    program = f"import os\ndef attempt(x):\n    os.listdir({str(Path(__file__).parents[2])!r})\n    return 'escaped'"
    assert code.grade(program, row(0, "cases", "escaped"), tier, LIMITS).score == 0


def test_an_ordinary_user_has_a_sandbox_too() -> None:
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    if os.getuid() or python is None:
        pytest.skip("needs root, to become another user, and a Python that others can run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = Path(tiers.__file__).parents[2]
        shutil.copytree(source / "verifiers/sandbox", folder / "tunesmith/verifiers/sandbox")
        for module in (
            "__init__.py",
            "core/__init__.py",
            "core/errors.py",
            "core/formatting.py",
            "verifiers/__init__.py",
        ):
            (folder / "tunesmith" / module).parent.mkdir(exist_ok=True)
            shutil.copy(source / module, folder / "tunesmith" / module)
        script = (
            "import sys; from tunesmith.verifiers.sandbox import tiers\n"
            f"print([tiers.failure(name) for name in {tiers.TIERS!r}] if sys.version_info >= (3, 11) else 'old')"
        )
        result = subprocess.run(
            [python, "-c", script], cwd=folder, user=65534, group=65534, extra_groups=[], capture_output=True, text=True
        )
    if result.stdout == "old\n":
        pytest.skip(f"{python} is older than 3.11")
    assert "None" in result.stdout, result.stdout + result.stderr


def test_without_a_working_tier_the_error_says_how_to_fix_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "failure", lambda name: f"{name}: leaks")
    with pytest.raises(SandboxError, match="bubblewrap: leaks; landlock: leaks\n  fix: install bubblewrap"):
        tiers.tier()


def test_the_second_tier_is_used_where_the_first_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "failure", lambda name: "leaks" if name == "bubblewrap" else None)
    assert tiers.tier() == "landlock"
