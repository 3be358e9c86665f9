"""Programs that a sandbox must contain, as data. Each defines ``attempt(about)``.

BREAKS return "escaped" where they got at something outside. ``about`` names what a test set out as bait: a file with a
secret, an empty folder, a TCP and a UDP port that listen, an abstract socket. BOMBS take what they can. CHEATS should
answer with a token that they were never given.
"""

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def breaking(body: str, before: str = "import os") -> str:
    """A program whose ``body`` gets somewhere if no statement of it raises."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{before}\ndef attempt(about):\n{lines}    return 'escaped'\n"


def answering(body: str, before: str = "import os, sys") -> str:
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
"""Breaks that do succeed outside a sandbox, and leave no harm: what the others are measured by."""

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

RAW = """
import os
def say(data):
    for number in range(3, 16):
        try: os.write(number, data)
        except OSError: pass
"""
FRAMES = """
import sys
def frames():
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back
"""


ALIKE = """
class Alike(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __len__(self): return 1
def attempt(about): return Alike()
"""
CHEATS = {
    "exits with 0": answering("sys.exit(0)"),
    "exits with 0 at once": answering("os._exit(0)"),
    "exits with 0 while it is loaded": "import os\ndef attempt(about): pass\nos._exit(0)",
    "raises SystemExit while it is loaded": "raise SystemExit(0)",
    "raises KeyboardInterrupt": answering("raise KeyboardInterrupt"),
    "raises AssertionError": answering("raise AssertionError"),
    "raises what has no text": (
        "class Silent(Exception):\n    def __str__(self): raise self\ndef attempt(about): raise Silent()"
    ),
    "equals everything": ALIKE.replace("(str)", ""),
    "equals everything as a string": ALIKE,
    "equals everything as an integer": ALIKE.replace("(str)", "(int)"),
    "equals everything as a list": ALIKE.replace("(str)", "(list)"),
    "equals everything by its metaclass": (
        "class Meta(type):\n    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n"
        "class Alike(metaclass=Meta): pass\ndef attempt(about): return Alike"
    ),
    "answers with NaN": answering("return float('nan')"),
    "answers with True": answering("return True"),
    "answers with itself": answering("return attempt"),
    "redefines asserts": (
        "import builtins\nclass AssertionError(BaseException):\n    def __new__(cls, *a): os._exit(0)\n"
        "builtins.AssertionError = AssertionError\ndef attempt(about): return None"
    ),
    "patches builtins": (
        "import builtins\nfor name in ('all', 'any', 'isinstance', 'callable'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\nbuiltins.type = lambda *a: str\n"
        "def attempt(about): return object()"
    ),
    "patches json": "import json\njson.dumps = lambda *a, **k: '[0,\"returned\",true]'\ndef attempt(about): return 1",
    "patches time": "import time\ntime.monotonic = time.time = lambda: 0\ndef attempt(about): return time.time()",
    "patches the sandbox's modules": (
        "import sys\nfor name, module in list(sys.modules.items()):\n    if 'tunesmith' in name:\n"
        "        for key, part in list(vars(module).items()):\n"
        "            if callable(part) and not isinstance(part, type): setattr(module, key, lambda *a, **k: True)\n"
        "def attempt(about): return True"
    ),
    "walks frames for the answer": FRAMES
    + answering(
        "for frame in frames():\n"
        "    for part in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "        for text in [part, *(part if isinstance(part, (list, tuple)) else [])]:\n"
        "            if isinstance(text, str) and text.startswith('token'): return text"
    ),
    "searches memory for the answer": answering(
        "for part in gc.get_objects():\n"
        "    for text in part.values() if type(part) is dict else part if type(part) in (list, tuple) else []:\n"
        "        if isinstance(text, str) and text.startswith('token') and len(text) > 8: return text",
        "import gc",
    ),
    "searches for the test": answering(
        "for module in list(sys.modules.values()):\n"
        "    if hasattr(module, 'check'): module.check = lambda candidate: None\n"
        "import inspect\nreturn inspect.getsource(sys.modules['test'])"
    ),
    "prints an answer and crashes": answering("print('passed', flush=True); os.abort()"),
    "prints an answer and exits": answering("print('[\"returned\", true]', flush=True); os._exit(0)"),
    "forges a nonce": RAW
    + "import json\ndata = json.dumps(['0' * 32, 'returned', True]).encode()\n"
    + "say(len(data).to_bytes(4, 'big') + data)\n"
    + "def attempt(about): return None",
    "forges a pass": RAW
    + FRAMES
    + answering(
        "import json\n"
        "for frame in frames():\n"
        "    nonce = frame.f_locals.get('nonce', '')\n"
        "    for message in ([nonce, 'passed', 1], [nonce, 'ended', 1], [nonce, 'ended', 1]):\n"
        "        data = json.dumps(message).encode()\n"
        "        say(len(data).to_bytes(4, 'big') + data)\n"
        "os._exit(0)"
    ),
    "answers ahead": RAW + "say(b'\\0\\0\\0\\x04true' * 100)\ndef attempt(about): return None",
    "announces more than it sends": RAW + "say(b'\\0\\0\\xff\\xff[')\ndef attempt(about): return None",
    "announces gigabytes": RAW + "say(b'\\xff' * 64)\ndef attempt(about): return None",
    "sends noise": RAW + "say(b'\\0\\0\\0\\x08' + b'\\xfe' * 8)\ndef attempt(about): return None",
    "sends nested noise": RAW + "data = b'[' * 60000\nsay(len(data).to_bytes(4, 'big') + data)\ndef attempt(a): pass",
    "sends a pickle": RAW
    + "import pickle\ndata = pickle.dumps(['returned'])\nsay(len(data).to_bytes(4, 'big') + data)\n"
    + "def attempt(about): return None",
    "closes every descriptor": answering("os.closerange(0, 64)\nreturn True"),
    "traces the caller": (
        "import sys\ndef tracer(frame, event, argument):\n    frame.f_locals.update(value=True)\n    return tracer\n"
        "sys.settrace(tracer)\ndef attempt(about): return None"
    ),
    "answers in an exit handler": "import atexit\natexit.register(print, 'passed')\ndef attempt(about): return None",
    "defines nothing": "pass\n# def attempt",
    "has a null byte": "def attempt(about):\n    return '\0'",
    "has half a character": "def attempt(about):\n    return '\ud800'",
}
