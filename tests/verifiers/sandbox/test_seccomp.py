import errno
import os
import platform
import struct

import pytest

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.sandbox import seccomp


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_the_listed_calls_and_no_others(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """An interpreter of classic BPF, as far as `seccomp` uses it."""

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
