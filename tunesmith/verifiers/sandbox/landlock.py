"""The second tier: a process that confines itself with Landlock and seccomp, for containers without namespaces.

Files other than the interpreter's can be neither opened nor listed; their existence and size can be learnt. The
process keeps its user but no capability. The filter of system calls covers the gaps of the kernel's Landlock (the
network before version 4, signals before 6) and of every version (modes, owners). This module runs inside.
"""

import ctypes
import os
import stat
import struct

FILES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""The number of rights on files in each version of Landlock (linux/landlock.h); later ones have at least as many."""
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
NETWORK, SCOPES = 0b11, 0b11
"""Binding and connecting TCP, since version 4; abstract sockets and signals, since 6."""
CREATE, ADD, RESTRICT = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
NO_NEW_PRIVILEGES, DEATH_SIGNAL, SECCOMP = 38, 1, 22
CAPABILITIES = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3."""

libc = ctypes.CDLL(None, use_errno=True)


def confine(paths: list[str], hidden: list[str], seccomp_filter: bytes, parent: int) -> None:
    """Give up, for good, everything but reading ``paths`` without ``hidden``; the names in a folder that holds a hidden
    one stay readable. Raises OSError where the kernel cannot restrict that."""
    version = _check("landlock_create_ruleset", libc.syscall(CREATE, None, 0, 1))
    attributes = [(1 << FILES[min(version, 5)]) - 1]
    attributes += [NETWORK] * (version >= 4) + [SCOPES] * (version >= 6)
    packed = struct.pack(f"{len(attributes)}Q", *attributes)
    rules = _check("landlock_create_ruleset", libc.syscall(CREATE, packed, len(packed), 0))
    waiting = list({os.path.realpath(path) for path in paths})
    while waiting:
        path = waiting.pop()
        descriptor = os.open(path, os.O_PATH)
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rights = READ_FILE | (READ_FOLDER if is_folder else 0)
        if is_folder and any(f"{other}/".startswith(f"{path}/") for other in hidden):
            rights = (
                READ_FOLDER  # a rule holds for all that is below, so what stands beside a hidden folder gets its own
            )
            entries = [
                entry for entry in os.scandir(path) if not entry.is_symlink()
            ]  # a link's target has its own path
            waiting += [entry.path for entry in entries if entry.path not in hidden]
        rule = struct.pack("=Qi", rights, descriptor)
        _check("landlock_add_rule", libc.syscall(ADD, rules, 1, rule, 0))
        os.close(descriptor)
    _check("prctl", libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _check("landlock_restrict_self", libc.syscall(RESTRICT, rules, 0))
    os.close(rules)
    _check("capset", libc.capset(struct.pack("Ii", CAPABILITIES, 0), bytes(24)))
    _check("prctl", libc.prctl(DEATH_SIGNAL, 9, 0, 0, 0))
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
    code = ctypes.create_string_buffer(seccomp_filter, len(seccomp_filter))
    fprog = struct.pack("HxxxxxxP", len(seccomp_filter) // 8, ctypes.addressof(code))
    _check("seccomp", libc.prctl(SECCOMP, 2, fprog, 0, 0))


def _check(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
