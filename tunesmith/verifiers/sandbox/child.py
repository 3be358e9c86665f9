"""The code that runs inside the sandbox, with the standard library alone: the candidate's side and the tester's.

A message is a list, sent as a length in four bytes and a `wire` value. Requests arrive on the former standard input,
replies leave on the former standard output; a program finds the null device in place of both. Nothing that a
candidate's process sends is trusted: whatever the program does to this module or to the frames above it changes only
the values that it returns, and it has seen no values but its inputs.
"""

import builtins
import os
import resource
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from tunesmith.verifiers.sandbox.wire import WireError, dump, parse, tree, value

SIZE = 4
"""Bytes before a message that hold its length."""
LONGEST_REASON = 300
"""Characters of an error's text that are sent."""


class Channel:
    """The pipes to the parent, in whose former places a program finds the null device."""

    def __init__(self, null: int) -> None:
        self.requests, self.replies = os.dup(0), os.dup(1)
        for standard in (0, 1, 2):
            os.dup2(null, standard)

    def send(self, *message: object, exact: bool = True) -> None:
        data = dump(tree(list(message), exact=exact))
        data = len(data).to_bytes(SIZE, "big") + data
        while data:
            data = data[os.write(self.replies, data) :]

    def receive(self) -> Any:
        """The next message. Ends the process where the other side has closed the pipe."""
        return value(parse(self._read(int.from_bytes(self._read(SIZE), "big"))))

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = os.read(self.requests, count)
            if not part:
                os._exit(0)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class UnsendableError(BaseException):
    """A test's argument that cannot be sent. Not an Exception, so that a test that expects one does not swallow it."""


def limit(memory: int, seconds: int, files: int) -> None:
    """Limit this process. memory: address space, in bytes. seconds: CPU time. files: how many may be open at once."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_NOFILE: files,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,  # a second barrier: the system call filter lets no process start another
    }
    for name, most in limits.items():
        resource.setrlimit(name, (most, most))


def serve_candidate(channel: Channel) -> None:
    """Load a program, then call its function once for each request. A reply repeats the nonce of its request."""
    nonce, prelude, sources, entry, exact = channel.receive()
    try:
        function = _load(prelude, sources, entry)
    except BaseException as error:  # a program may raise anything, SystemExit and KeyboardInterrupt too
        channel.send(nonce, "raised", *_description(error))
        return
    channel.send(nonce, "loaded")
    calls = 0
    while (request := channel.receive())[1] == "call":
        nonce, _, arguments, named = request
        calls += 1
        try:
            channel.send(nonce, "returned", function(*arguments, **named), exact=exact)
        except BaseException as error:  # as above
            channel.send(nonce, "raised", *_description(error))
    channel.send(request[0], "ended", calls)


def serve_tester(channel: Channel) -> None:
    """Run ``check(candidate)`` of a test, where every call of ``candidate`` is a message."""
    nonce, prelude, test, entry = channel.receive()
    calls = 0
    raised: Exception | None = None

    def candidate(*arguments: object, **named: object) -> object:
        nonlocal calls, raised
        try:
            channel.send(nonce, "call", list(arguments), named)
        except WireError as error:
            raise UnsendableError(str(error)) from None
        calls += 1
        kind, *content = channel.receive()
        if kind == "returned":
            return content[0]
        raised = _error(*content)
        raise raised

    space: dict[str, Any] = {"__name__": "test"}
    try:
        _run_if_code(prelude, space)
        space[entry] = candidate
        exec(compile(test, "<test>", "exec"), space)
        check = space["check"]
    except BaseException as error:  # whatever it is, the test is broken
        channel.send(nonce, "broken", calls, *_description(error), 0)
        return
    try:
        check(candidate)
    except BaseException as error:  # a test may raise anything as well
        broken = isinstance(error, UnsendableError | NameError | ImportError) and error is not raised
        channel.send(nonce, "broken" if broken else "failed", calls, *_description(error), _line(error))
    else:
        channel.send(nonce, "passed", calls)


def _load(prelude: str, sources: list[str], entry: str) -> Callable[..., object]:
    """The function of the first of the sources that compiles."""
    module = sys.modules["candidate"] = type(sys)("candidate")
    _run_if_code(prelude, module.__dict__)
    exec(_compile_first(sources), module.__dict__)
    function: object = module.__dict__.get(entry)
    if not callable(function):
        raise NameError(f"the program defines no function {entry!r}")
    return function


def _compile_first(sources: list[str]) -> CodeType:
    first: SyntaxError | None = None
    for source in sources:
        try:
            return compile(source, "<candidate>", "exec")
        except SyntaxError as error:
            first = first or error
    raise first or SyntaxError("no program")


def _run_if_code(prelude: str, space: dict[str, Any]) -> None:
    """Run a prompt that is the start of a program; a prompt in prose does not compile."""
    try:
        code = compile(prelude, "<prompt>", "exec")
    except SyntaxError:
        return
    exec(code, space)


def _description(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error)[:LONGEST_REASON]


def _error(name: str, text: str) -> Exception:
    """The candidate's error, rebuilt where its type is built in, since a test may expect it.

    A StopIteration becomes a RuntimeError, as in a generator (PEP 479): it would end the test's own `map` or `zip`.
    """
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in (StopIteration, StopAsyncIteration):
        try:
            return kind(text)
        except TypeError:  # UnicodeDecodeError takes five arguments
            pass
    return RuntimeError(f"{name}: {text}")


def _line(error: BaseException) -> int:
    """The line of the test that was running, or 0."""
    line, entry = 0, error.__traceback__
    while entry:
        if entry.tb_frame.f_code.co_filename == "<test>":
            line = entry.tb_lineno
        entry = entry.tb_next
    return line


def main(role: str, null: int, limits: tuple[int, int, int]) -> None:
    """Serve a role until the parent is done. null: a descriptor of the null device, open for reading and writing."""
    channel = Channel(null)
    limit(*limits)
    channel.send("ready")
    {"candidate": serve_candidate, "tester": serve_tester}[role](channel)
    os._exit(0)  # skips the program's exit handlers
