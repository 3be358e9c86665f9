"""Programs that a sandbox must contain, as data. Each defines ``attempt(about)``.

BREAKS return "escaped" where they reached something outside. ``about`` names the bait of a test: a file with a secret,
an empty folder, a TCP and a UDP port that listen, an abstract socket. BOMBS take as much of a resource as they can.
"""

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def breaking(body: str, before: str = "import os") -> str:
    """A program that returns "escaped" if no statement of ``body`` raises."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{before}\ndef attempt(about):\n{lines}    return 'escaped'\n"


def answering(body: str, before: str = "import os, sys") -> str:
    """A program that answers as ``body`` does."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{before}\ndef attempt(about):\n{lines}"


def calling(expression: str, before: str = "") -> str:
    """A program that makes a call of the C library, which fails with -1."""
    return breaking(f"assert {expression} >= 0, os.strerror(ctypes.get_errno())", LIBC + before)


READS = {
    "reads /etc/passwd": breaking("open('/etc/passwd').read()"),
    "reads another's file": breaking("assert open(about['secret']).read() == 'secret'"),
    "lists another's folder": breaking("os.listdir(about['folder'])"),
    "reads the environment": breaking("assert 'PATH' in os.environ"),
    "lists /proc": breaking("os.listdir('/proc')"),
    "reads its own /proc": breaking("open('/proc/self/maps').read()"),
    "reads its parent's environment": breaking("open(f'/proc/{os.getppid()}/environ', 'rb').read()"),
    "reads init's environment": breaking("open('/proc/1/environ', 'rb').read()"),
    "opens its parent's memory": breaking("open(f'/proc/{os.getppid()}/mem', 'rb')"),
    "reads home": breaking("os.listdir('/root'); os.listdir('/home')"),
    "reads devices": breaking("open('/dev/kmsg', 'rb'); os.listdir('/sys')"),
    "opens through a handed-on descriptor": breaking(
        "for number in range(64):\n"
        "    try:\n"
        "        os.close(os.open('etc/passwd', os.O_RDONLY, dir_fd=number)); return 'escaped'\n"
        "    except OSError:\n"
        "        pass\n"
        "raise OSError"
    ),
    "opens by handle": calling("libc.open_by_handle_at(-100, ctypes.create_string_buffer(128), 0)"),
    "leaves by dots": breaking("os.chdir('../../../../..'); open('etc/passwd').read()"),
}
WRITES = {
    "writes to a folder": breaking("open(about['folder'] + '/file', 'w').write('x')"),
    "writes to another's file": breaking("open(about['secret'], 'w').write('x')"),
    "appends through open": breaking("os.open(about['secret'], os.O_WRONLY | os.O_APPEND)"),
    "writes to /tmp": breaking("import tempfile; tempfile.mkdtemp()"),
    "writes to shared memory": breaking("open('/dev/shm/hostile', 'w').write('x')"),
    "writes to the root folder": breaking("open('/hostile', 'w').write('x')"),
    "truncates": breaking("os.truncate(about['secret'], 0)"),
    "makes a folder": breaking("os.mkdir(about['folder'] + '/more')"),
    "makes a symbolic link": breaking("os.symlink('/etc', about['folder'] + '/link')"),
    "makes a hard link": breaking("os.link(about['secret'], about['folder'] + '/link')"),
    "renames": breaking("os.rename(about['secret'], about['secret'] + '2')"),
    "removes": breaking("os.unlink(about['secret'])"),
    "changes a mode": breaking("os.chmod(about['secret'], 0o777)"),
    "changes the standard library's mode": breaking("os.chmod(os.__file__, 0o644)"),
    "changes a time": breaking("os.utime(about['secret'])"),
    "changes an owner": breaking("os.chown(about['secret'], os.getuid(), os.getgid())"),
    "sets an attribute": breaking("os.setxattr(about['secret'], 'user.hostile', b'x')"),
    "makes a pipe file": breaking("os.mkfifo(about['folder'] + '/pipe')"),
    "makes a memory file": breaking("os.memfd_create('hostile')"),
    "leaves System V shared memory": calling("libc.shmget(0, 1 << 20, 0o1600)"),
    "leaves POSIX shared memory": calling("libc.shm_open(b'/hostile', 0o102, 0o600)"),
}
PROCESSES = {
    "forks": breaking("if os.fork() == 0:\n    os._exit(0)"),
    "spawns": breaking("os.posix_spawn('/bin/true', ['true'], {})"),
    "runs a shell": breaking("assert os.system('true') == 0"),
    "runs a subprocess": breaking("subprocess.run(['/bin/true'])", "import subprocess"),
    "replaces itself by a shell": breaking("os.execv('/bin/sh', ['sh', '-c', 'true'])"),
    "starts a thread": breaking("threading.Thread(target=int).start()", "import threading"),
    "clones": calling("libc.syscall(56, 17, 0, 0, 0, 0)"),
    "clones anew": calling("libc.syscall(435, (ctypes.c_uint64 * 11)(*[0] * 11), 88)"),
    "leaves a daemon": breaking(
        "if os.fork():\n    return 'escaped'\nos.setsid()\nif os.fork():\n    os._exit(0)\nimport time\ntime.sleep(60)"
    ),
    "signals its parent": breaking("os.kill(os.getppid(), 0)"),
    "signals everyone": breaking("os.kill(-1, 0)"),
    "signals as a file's owner": breaking(
        "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())", "import os, fcntl"
    ),
    "slows its parent": breaking("os.setpriority(os.PRIO_PROCESS, os.getppid(), 1)"),
    "limits its parent": breaking(
        "resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))", "import os, resource"
    ),
    "lifts its limits": breaking(
        "resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)", "import resource"
    ),
    "traces its parent": calling("libc.ptrace(16, os.getppid(), None, None)"),
    "lets itself be traced": calling("libc.ptrace(0, 0, None, None)"),
    "reads its parent's memory": calling("libc.syscall(310, os.getppid(), None, 0, None, 0, 0)"),
    "outlives its parent": calling("libc.prctl(1, 0, 0, 0, 0)"),
    "becomes root": breaking("os.setresuid(0, 0, 0)\nos.setgroups([0])"),
}
KERNEL = {
    "unshares": calling("libc.unshare(0x10000000)"),
    "enters a namespace": calling("libc.setns(0, 0)"),
    "mounts": calling("libc.mount(b'none', b'/', b'tmpfs', 0, None)"),
    "changes the root": breaking("os.chroot('/')"),
    "sets up io_uring": calling("libc.syscall(425, 1, ctypes.create_string_buffer(256))"),
    "loads BPF": calling("libc.syscall(321, 0, ctypes.create_string_buffer(128), 128)"),
    "counts events": calling("libc.syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)"),
    "handles page faults": calling("libc.syscall(323, 1)"),
    "keeps a key": calling("libc.syscall(248, b'user', b'hostile', b'x', 1, -3)"),
    "reads the kernel's log": calling("libc.klogctl(3, ctypes.create_string_buffer(64), 64)"),
    "names the host": breaking("socket.sethostname('hostile')", "import socket"),
    "calls as x32": calling("libc.syscall(0x40000000 + 39)"),
}
NETWORK = {
    "connects by TCP": breaking("socket.create_connection(('127.0.0.1', about['tcp']), 1)", "import socket"),
    "sends by UDP": breaking(
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', about['udp']))", "import socket"
    ),
    "listens": breaking("socket.create_server(('127.0.0.1', 0))", "import socket"),
    "connects to an abstract socket": breaking(
        "socket.socket(socket.AF_UNIX).connect(chr(0) + about['abstract'])", "import socket"
    ),
    "reconnects a socket pair": breaking(
        "pair = socket.socketpair(type=socket.SOCK_DGRAM)\npair[0].connect(chr(0) + about['datagrams'])",
        "import socket",
    ),
    "sends from a socket pair": breaking(
        "pair = socket.socketpair(type=socket.SOCK_DGRAM)\npair[0].sendto(b'x', chr(0) + about['datagrams'])",
        "import socket",
    ),
    "opens a netlink socket": breaking("socket.socket(16, socket.SOCK_RAW, 0)", "import socket"),
    "resolves a name": breaking("socket.getaddrinfo('localhost', 80)[0]; open('/etc/hosts')", "import socket"),
}
BREAKS = READS | WRITES | PROCESSES | KERNEL | NETWORK
HARMLESS = [
    "reads /etc/passwd",
    "reads another's file",
    "lists another's folder",
    "reads the environment",
    "reads its parent's environment",
    "writes to a folder",
    "truncates",
    "makes a symbolic link",
    "changes a mode",
    "makes a memory file",
    "forks",
    "runs a shell",
    "starts a thread",
    "signals its parent",
    "signals as a file's owner",
    "connects by TCP",
    "sends by UDP",
    "connects to an abstract socket",
    "reconnects a socket pair",
    "lets itself be traced",
]
"""BREAKS that succeed outside a sandbox without doing harm, which shows that they would succeed without one."""

ENDLESS = {
    "loops": "while True: pass",
    "loops while it is loaded": "while True: pass\ndef attempt(about): pass",
    "sleeps": "import time\ntime.sleep(60)",
    "swallows every exception": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "ignores every signal": (
        "import signal\nfor number in range(1, 32):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "computes in C": "9 ** 9 ** 9",
    "matches for ever": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "prints for ever": "while True: print('x' * 65536)",
    "writes errors for ever": "import sys\nwhile True: sys.stderr.write('x' * 65536)",
    "forks for ever": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "fills disks for ever": (
        "import os\nwhile True:\n    for folder in ('/tmp', '/dev/shm', about['folder'], '.'):\n"
        "        try: open(folder + '/hostile', 'ab').write(bytes(1 << 20))\n        except OSError: pass"
    ),
}
BOMBS = {name: body if "def attempt" in body else breaking(body) for name, body in ENDLESS.items()} | {
    "takes all memory": "def attempt(about):\n    return len(bytearray(1 << 40))",
    "takes memory bit by bit": "def attempt(about):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))",
    "takes memory outside Python": breaking(
        "kept = []\nwhile True: kept.append(mmap.mmap(-1, 1 << 24))", "import mmap"
    ),
    "takes memory in many processes": breaking(
        "kept = bytearray(1 << 25)\nfor _ in range(100):\n    if os.fork() == 0:\n        kept = bytearray(1 << 26)"
    ),
    "takes all descriptors": breaking("kept = []\nwhile len(kept) < 10000: kept += os.pipe()"),
    "starts many threads": breaking(
        "for _ in range(1000): threading.Thread(target=time.sleep, args=[60]).start()", "import threading, time"
    ),
    "recurses": "def attempt(about): return attempt(about)",
    "recurses in C": "import sys\nsys.setrecursionlimit(10**9)\ndef attempt(about): return attempt(about)",
    "crashes": breaking("ctypes.string_at(0)", "import ctypes"),
    "crashes the compiler": "attempt = " + "-" * 200_000 + "1",
    "nests brackets": "attempt = " + "(" * 100_000,
    "answers with too much": "def attempt(about): return 'x' * (1 << 26)",
    "answers with a deep list": answering("deep = []\nfor _ in range(10000): deep = [deep]\nreturn deep"),
    "answers with a cycle": answering("cycle = []\ncycle.append(cycle)\nreturn cycle"),
    "answers with sharing": answering("wide = []\nfor _ in range(40): wide = [wide, wide]\nreturn wide"),
    "answers with a long integer": "def attempt(about): return 1 << 100000",
    "answers with an endless sequence": "import itertools\ndef attempt(about): return itertools.count()",
}
