"""The system calls that sandboxed Python may make, as a filter in classic BPF (seccomp(2), bpf(4)).

The filter is an allow-list, assembled here: the calls that a single-threaded interpreter needs to compute, import and
wait. Every other call fails with EPERM, so that a program sees an error it can catch; calls since Linux 5.1 (number 424
on, the same on every architecture: pidfd, io_uring, clone3, openat2, landlock) fail with ENOSYS, so that the C library
falls back. A deny-list would be longer, and would trust every call not yet invented. Another architecture's calls,
x32's among them, kill the process.

The calls that are missing make the sandbox as much as its namespaces do. There is no fork, vfork or clone: a sandboxed
process is one process with one thread, so that a limit on its memory is a limit on all, and one kill ends it. No file
opens for writing, on any file system, and no file, mode, owner or time changes. No signal is sent, not even by a
file's owner (F_SETOWN), which Landlock alone stops only since Linux 6.12. The only sockets are pairs, for asyncio, and
they cannot be connected elsewhere.
"""

import errno
import platform
import struct
from dataclasses import dataclass

from tunesmith.core.errors import SandboxError

ALLOWED = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, lseek 8 62, close 3 57, fstat 5 80,
newfstatat 262 79, stat 4 -, lstat 6 -, statx 332 291, access 21 -, faccessat 269 48, readlink 89 -, readlinkat 267 78,
getcwd 79 17, chdir 80 49, fchdir 81 50, getdents 78 -, getdents64 217 61, statfs 137 43, fstatfs 138 44,
fadvise64 221 223, umask 95 166, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59, select 23 -,
pselect6 270 72, poll 7 -, ppoll 271 73, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -,
epoll_pwait 281 22, eventfd 284 -, eventfd2 290 19, recvfrom 45 207, shutdown 48 210, getsockopt 55 209,
getsockname 51 204, getpeername 52 205,
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214, membarrier 324 283,
futex 202 98, set_robust_list 273 99, rseq 334 293, set_tid_address 218 96, arch_prctl 158 -,
getpid 39 172, getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
getresuid 118 148, getresgid 120 150, getpgrp 111 -, getpgid 121 155, getsid 124 156, getgroups 115 158,
getpriority 140 141, getrusage 98 165, getrlimit 97 163, sysinfo 99 179, uname 63 160, times 100 153,
getrandom 318 278, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101,
gettimeofday 96 169, time 201 -, sched_yield 24 124, sched_getaffinity 204 123, sched_get_priority_max 146 125,
sched_get_priority_min 147 126, getcpu 309 168,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -, alarm 37 -, setitimer 38 103, getitimer 36 102,
restart_syscall 219 128, wait4 61 260, waitid 247 95, exit 60 93, exit_group 231 94
"""
"""Names with their numbers on x86_64 and aarch64 (asm/unistd_64.h, asm-generic/unistd.h)."""


@dataclass(frozen=True)
class Check:
    """The condition of a call: its argument is one of ``values``, or has none of the bits of ``without``."""

    numbers: tuple[int | None, int | None]
    """The number of the call on x86_64 and on aarch64."""
    argument: int
    """The position of the argument, from 0."""
    values: tuple[int, ...] = ()
    without: int = 0


WRITING = 0o3 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY and O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE."""
CHECKED = {
    "open": Check((2, None), 1, without=WRITING),
    "openat": Check((257, 56), 2, without=WRITING),
    "fcntl": Check((72, 25), 1, values=(0, 1, 2, 3, 4, 1030)),  # F_DUPFD, F_[GS]ETFD, F_[GS]ETFL, F_DUPFD_CLOEXEC
    "ioctl": Check((16, 29), 1, values=(0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS .. FIOCLEX
    "socketpair": Check((53, 199), 0, values=(1,)),  # AF_UNIX
    "sendto": Check((44, 206), 4, values=(0,)),  # without an address
    "prlimit64": Check((302, 261), 0, values=(0,)),  # its own limits, which only shrink
}
EXECVE = (59, 221)
"""Numbers of execve, which bubblewrap needs to start the interpreter once it has set the filter. Another program would
run in the same sandbox."""

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""The column of a machine's numbers, and its AUDIT_ARCH_*."""
X32, MODERN = 0x40000000, 424
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data, which is little-endian on both machines."""


def program(*, execve: bool) -> bytes:
    """The filter for this machine, an array of struct sock_filter. Raises SandboxError on an unknown machine."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise SandboxError(f"no system call filter for {machine}", fix=f"grade code on one of {' or '.join(MACHINES)}")
    column, arch = MACHINES[machine]
    code = [_op(LOAD, ARCH), _op(EQUAL, arch, 1, 0), _op(RETURN, KILL), _op(LOAD, NUMBER)]
    code += [_op(AT_LEAST, X32, 0, 1), _op(RETURN, KILL)]
    code += [_op(AT_LEAST, MODERN, 0, 1), _op(RETURN, ERRNO | errno.ENOSYS)]
    for number in sorted(_allowed(column) | ({EXECVE[column]} if execve else set())):
        code += [_op(EQUAL, number, 0, 1), _op(RETURN, ALLOW)]
    for check in CHECKED.values():
        number_here = check.numbers[column]
        if number_here is not None:
            body = _condition(check)
            code += [_op(EQUAL, number_here, 0, len(body)), *body]
    return b"".join([*code, _op(RETURN, ERRNO | errno.EPERM)])


def _allowed(column: int) -> set[int]:
    numbers = [entry.split()[1 + column] for entry in ALLOWED.split(",")]
    return {int(number) for number in numbers if number != "-"}


def _condition(check: Check) -> list[bytes]:
    low = ARGUMENTS + 8 * check.argument
    if check.without:
        return [_op(LOAD, low), _op(ANY_BIT, check.without, 1, 0), _op(RETURN, ALLOW), _op(RETURN, ERRNO | errno.EPERM)]
    body = [_op(LOAD, low + 4), _op(EQUAL, 0, 1, 0), _op(RETURN, ERRNO | errno.EPERM), _op(LOAD, low)]
    for value in check.values:
        body += [_op(EQUAL, value, 0, 1), _op(RETURN, ALLOW)]
    return [*body, _op(RETURN, ERRNO | errno.EPERM)]


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, k)
