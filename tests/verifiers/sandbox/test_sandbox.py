import contextlib
import errno
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import hostile_programs
from tunesmith.core.errors import SandboxError
from tunesmith.verifiers import code
from tunesmith.verifiers.sandbox import interpreter, process, seccomp, tiers, wire

LIMITS = tiers.Limits(seconds=0.7, memory=256 << 20)
MARK = "TUNESMITH_TEST"
"""A variable by which a sandbox's processes are known."""
TOKEN = "token-that-only-the-row-knows"
TIERS = get_args(tiers.Tier)


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> tiers.Tier:
    name: tiers.Tier = request.param
    reason = tiers.broken(name)
    if reason:
        pytest.skip(reason)
    return name


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What the programs are told of, and try to get at."""
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


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(interpreter.VARIABLES, MARK, str(tmp_path))


def marked(tmp_path: Path) -> list[int]:
    """The sandboxed processes of this test that live, once those that were killed have had time to go."""
    mark, deadline = f"{MARK}={tmp_path}".encode(), time.monotonic() + 2
    while (found := [pid for pid in _pids() if mark in _environ(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def row(about: Any, layout: str, expected: str) -> code.Columns:
    if layout == "cases":
        return {"entry_point": "attempt", "cases": [{"args": [about], "expected": expected}]}
    test = f"def check(candidate):\n    assert candidate({about!r}) == {expected!r}\n"
    return {"entry_point": "attempt", "test": test}


@pytest.mark.parametrize("name", hostile_programs.BREAKS)
def test_nothing_outside_is_reached(name: str, tier: tiers.Tier, bait: dict[str, Any], tmp_path: Path) -> None:
    verdict = code.grade(hostile_programs.BREAKS[name], row(bait, "cases", "escaped"), tier, LIMITS)
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
    assert_untouched(bait, tmp_path)


@pytest.mark.parametrize("name", hostile_programs.HARMLESS)
def test_without_a_sandbox_the_same_programs_get_out(name: str, bait: dict[str, Any]) -> None:
    program = f"{hostile_programs.BREAKS[name]}\nprint(attempt({bait!r}))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert ran.stdout == "escaped\n", ran.stderr


@pytest.mark.parametrize("name", hostile_programs.BOMBS)
def test_bombs_end_in_time_and_leave_nothing(name: str, tier: tiers.Tier, bait: dict[str, Any], tmp_path: Path) -> None:
    began = time.monotonic()
    verdict = code.grade(hostile_programs.BOMBS[name], row(bait, "cases", "escaped"), tier, LIMITS)
    assert time.monotonic() - began < LIMITS.seconds + 1
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
    assert_untouched(bait, tmp_path)


@pytest.mark.parametrize("layout", ["cases", "test"])
@pytest.mark.parametrize("name", hostile_programs.CHEATS)
def test_what_was_never_told_is_never_answered(name: str, layout: str, tier: tiers.Tier, tmp_path: Path) -> None:
    began = time.monotonic()
    verdict = code.grade(hostile_programs.CHEATS[name], row(3, layout, TOKEN), tier, LIMITS)
    assert time.monotonic() - began < LIMITS.seconds + 1
    assert (verdict.score, verdict.status) == (0.0, "scored"), verdict.reason
    assert TOKEN not in str(verdict.answer)
    assert not marked(tmp_path)


def assert_untouched(bait: dict[str, Any], tmp_path: Path) -> None:
    assert not marked(tmp_path)
    secret = Path(bait["secret"])
    assert secret.read_text() == "secret"
    assert secret.stat().st_mode & 0o777 != 0o777
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "secret"]
    for folder in (bait["folder"], "/", "/dev/shm", tempfile.gettempdir()):
        assert not Path(folder, "hostile").exists()
    assert not list(Path(bait["folder"]).iterdir())


def test_a_killed_caller_leaves_no_process(tier: tiers.Tier, tmp_path: Path) -> None:
    script = f"""
        import time
        from tunesmith.verifiers.sandbox import interpreter, process
        interpreter.VARIABLES["{MARK}"] = {str(tmp_path)!r}
        with process.started({tier!r}, "candidate") as [candidate]:
            candidate.send("", "", ["import time; time.sleep(60)"], "f", True, deadline=time.monotonic() + 5)
            print("asleep", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "asleep\n"
        assert [pid for pid in _pids() if f"{MARK}={tmp_path}".encode() in _environ(pid)]
        caller.kill()
    assert not marked(tmp_path)


def test_an_ordinary_user_has_a_sandbox_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    if os.getuid() or python is None:
        pytest.skip("needs root, to become another user, and a Python that others can run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = Path(tiers.__file__).parents[2]
        shutil.copytree(source / "verifiers/sandbox", folder / "tunesmith/verifiers/sandbox")
        for module in ("__init__.py", "core/__init__.py", "core/errors.py", "verifiers/__init__.py"):
            (folder / "tunesmith" / module).parent.mkdir(exist_ok=True)
            shutil.copy(source / module, folder / "tunesmith" / module)
        script = (
            "import sys; from tunesmith.verifiers.sandbox import tiers\n"
            f"print([tiers.broken(name) for name in {TIERS!r}] if sys.version_info >= (3, 11) else 'old')"
        )
        ran = subprocess.run(
            [python, "-c", script], cwd=folder, user=65534, group=65534, extra_groups=[], capture_output=True, text=True
        )
    if ran.stdout == "old\n":
        pytest.skip(f"{python} is older than 3.11")
    assert "None" in ran.stdout, ran.stdout + ran.stderr


def test_both_tiers_refused_is_an_error_that_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "broken", lambda name: f"{name}: leaks")
    with pytest.raises(SandboxError, match="bubblewrap: leaks; landlock: leaks\n  fix: install bubblewrap"):
        tiers.tier()


def test_the_second_tier_is_used_where_the_first_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "broken", lambda name: "leaks" if name == "bubblewrap" else None)
    assert tiers.tier() == "landlock"


def test_a_tier_without_its_filter_does_not_pass_its_self_test(
    tier: tiers.Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_all = struct.pack("<HBBI", seccomp.RETURN, 0, 0, seccomp.ALLOW)
    monkeypatch.setattr(seccomp, "program", lambda *, execve: allow_all)
    assert "opens a UNIX socket" in str(tiers.selftest.broken(tier))


def test_a_tier_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        process.bubblewrap, "command", lambda descriptor: ["sh", "-c", "echo no namespaces >&2; exit 1"]
    )
    assert str(tiers.selftest.broken("bubblewrap")).endswith("does not start: no namespaces")
    monkeypatch.setattr(process.bubblewrap, "command", lambda descriptor: ["no-such-bubblewrap"])
    assert "No such file" in str(tiers.selftest.broken("bubblewrap"))


def test_a_program_finds_no_folder_of_the_project(tier: tiers.Tier) -> None:
    program = f"import os\ndef attempt(x):\n    os.listdir({str(Path(__file__).parents[2])!r})\n    return 'escaped'"
    assert code.grade(program, row(0, "cases", "escaped"), tier, LIMITS).score == 0


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_what_it_lists_and_nothing_else(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    column, arch = seccomp.MACHINES[machine]
    run = Filter(seccomp.program(execve=False), arch)
    allowed, denied = seccomp.ALLOW, seccomp.ERRNO | errno.EPERM
    listed = seccomp._allowed(column)
    checked = {check.numbers[column] for check in seccomp.CHECKED.values()}
    for number in range(seccomp.MODERN):
        if number not in checked:
            assert run(number) == (allowed if number in listed else denied)
    for number in (424, 425, 435, 444, 462, 999):
        assert run(number) == seccomp.ERRNO | errno.ENOSYS
    assert run(0x40000000 + 39) == seccomp.KILL
    assert Filter(seccomp.program(execve=False), arch ^ 1)(sorted(listed)[0]) == seccomp.KILL
    execve = seccomp.EXECVE[column]
    assert (run(execve), Filter(seccomp.program(execve=True), arch)(execve)) == (denied, allowed)
    openat, prlimit = (seccomp.CHECKED[name].numbers[column] for name in ("openat", "prlimit64"))
    assert openat is not None
    assert prlimit is not None
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_TMPFILE):
        assert run(openat, 0, 0, flags) == denied
    assert run(openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC) == allowed
    assert [run(prlimit, pid) for pid in (0, 1, 1 << 32)] == [allowed, denied, denied]


def test_an_unknown_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "m68k")
    with pytest.raises(SandboxError, match="m68k"):
        seccomp.program(execve=False)


class Filter:
    """Runs classic BPF, as far as `seccomp` writes it."""

    def __init__(self, program: bytes, arch: int) -> None:
        self.code, self.arch = list(struct.iter_unpack("<HBBI", program)), arch

    def __call__(self, number: int, *arguments: int) -> int:
        data = struct.pack("<iIQ6Q", number, self.arch, 0, *arguments, *[0] * (6 - len(arguments)))
        position, register = 0, 0
        while True:
            operation, if_true, if_false, k = self.code[position]
            position += 1
            match operation:
                case seccomp.LOAD:
                    (register,) = struct.unpack_from("<I", data, k)
                case seccomp.RETURN:
                    return int(k)
                case seccomp.EQUAL:
                    position += if_true if register == k else if_false
                case seccomp.AT_LEAST:
                    position += if_true if register >= k else if_false
                case seccomp.ANY_BIT:
                    position += if_true if register & k else if_false


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(hashable, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_plain_values_cross_as_they_are(value: Any) -> None:
    crossed = wire.value(wire.parse(wire.dump(wire.tree(value))))
    assert repr(sorted_sets(crossed)) == repr(sorted_sets(value))


def sorted_sets(value: Any) -> Any:
    """Sets as sorted lists, for two equal ones may print differently."""
    match value:
        case set() | frozenset():
            return [type(value), sorted(map(repr, map(sorted_sets, value)))]
        case dict():
            return {"dict": [(sorted_sets(key), sorted_sets(item)) for key, item in value.items()]}
        case list() | tuple():
            return [type(value), *map(sorted_sets, value)]
    return value


class Number(int):
    pass


@pytest.mark.parametrize("value", [object(), Number(1), Counter("a"), iter([]), len, 1j, bytearray(1), ..., int])
def test_other_types_do_not_cross(value: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.tree([value])


@pytest.mark.parametrize(("value", "crossed"), [(Number(1), 1), (Counter("aa"), {"a": 2}), ([Number(2)], [2])])
def test_a_subclass_crosses_as_its_base_where_it_may(value: Any, crossed: Any) -> None:
    tree = wire.tree(value, exact=False)
    assert (wire.value(tree), repr(wire.value(tree))) == (crossed, repr(crossed))


NO_VALUES = [
    b"", b"{", b"\xff", b"[" * 100_000, b"{}", b'{"list":[]}', b'{"dict":[[1]]}', b'{"dict":[1]}', b'{"set":1}',
    b'{"bytes":"0"}', b'{"bytes":[]}', b'{"set":[],"tuple":[]}', b"9" * 5000, b"[" * 60 + b"]" * 60,
    b'{"tuple":[{"x":1}]}', b"1 2",
]  # fmt: skip


@pytest.mark.parametrize("data", NO_VALUES)
def test_what_is_no_value_is_an_error(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.parse(data)


def test_a_hostile_set_is_never_built_outside() -> None:
    colliding = b'{"set":[%s]}' % b",".join(str(i * (2**61 - 1)).encode() for i in range(1, 40_000))
    began = time.monotonic()
    wire.parse(colliding)
    assert time.monotonic() - began < 1


def test_a_set_of_lists_is_an_error_and_not_a_value() -> None:
    with pytest.raises(wire.WireError):
        wire.value(wire.parse(b'{"set":[[]]}'))


def test_processes_and_their_pipes_are_closed_whatever_happens(tier: tiers.Tier, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ZeroDivisionError), tiers.started(tier, "candidate", "tester"):
        raise ZeroDivisionError
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not marked(tmp_path)


def test_an_interpreter_below_a_virtual_environment_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    assert interpreter.executable() == Path("/bin/sh").resolve()
    version = SimpleNamespace(major=3, minor=99)
    monkeypatch.setattr(sys, "version_info", version)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3.99").touch()
    assert interpreter.executable() == tmp_path / "bin/python3.99"
