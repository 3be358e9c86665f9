"""Does a program do what its tests say? It runs in the sandbox, and what is expected of it stays outside.

A row names the function, ``entry_point``, and has one of

    cases   [{"args": [...], "kwargs": {...}, "expected": ...}, ...]: compared here, by exact built-in type (1 is
            not True, 1.0 or "1"; a tuple is no list) and value; floats within ``tolerance`` where the row has one
    test    HumanEval's: the text of a ``check(candidate)`` that asserts. It runs in a sandboxed process of its own,
            where every call of ``candidate`` is a message that this process passes on to the program's

so that the program's process meets its inputs and nothing else. Arguments cross by value: a function cannot be one,
and a test cannot see them changed. A test's ``==`` is Python's own, so a subclass (a Counter) counts as its base.

A program that fails to load, raises, ends, dawdles or answers with what is no plain value is wrong. Not gradable is
what it has no part in: no sandbox, a test that does not load, names what does not exist, or calls nothing. A program
cannot choose not to be graded: a test that does not end once it has called is its failure, and so is one that breaks
then, if the row's own solution passes it.
"""

import secrets
import time

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.core.errors import SandboxError
from tunesmith.verifiers.program import Program, assemble, extract, stub
from tunesmith.verifiers.sandbox import tiers, wire
from tunesmith.verifiers.verdict import Columns, Verdict

SHOWN = 120
"""Characters of a value in a reason."""
FORGED = "the program answered for the sandbox"


class Case(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    args: list[object]
    kwargs: dict[str, object] = {}
    expected: object


class Task(BaseModel):
    """What the verifier reads of a row."""

    model_config = ConfigDict(strict=True)
    entry_point: str
    prompt: list[dict[str, object]] = []
    test: str = ""
    cases: list[Case] = []
    tolerance: float = 0.0

    def start(self) -> str:
        """What the program begins with."""
        asked = [message.get("content", "") for message in self.prompt if message.get("role") == "user"]
        return str(asked[-1]) if asked else ""


class WrongError(Exception):
    """The program is wrong, for the reason that is its text."""


class UngradableError(Exception):
    """The row or the machine is at fault, for the reason that is its text."""


class BrokenTestError(UngradableError):
    """The test broke after the program had answered it: by itself, or on what was answered."""


def verify(completion: str, row: Columns) -> Verdict:
    """1 where every case or the whole test passes, else 0. In the first tier that holds here."""
    try:
        return grade(completion, row, tiers.tier())
    except SandboxError as error:
        return Verdict(0.0, None, str(error), "not_gradable")


def grade(completion: str, row: Columns, tier: tiers.Tier, limits: tiers.Limits = tiers.LIMITS) -> Verdict:
    """`verify` in a tier. Raises SandboxError where the sandbox does not start."""
    try:
        task = Task.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        return Verdict(0.0, None, f"row: {'.'.join(map(str, first['loc']))}: {first['msg']}", "not_gradable")
    if bool(task.cases) == bool(task.test):
        return Verdict(0.0, None, "a row has either `cases` or a `test`", "not_gradable")
    code = extract(completion, task.entry_point)
    if code is None:
        return Verdict(0.0, None, "no code in the completion", "no_answer")
    program = assemble(code, task.start(), task.entry_point)
    try:
        passed = (_run_cases if task.cases else _run_test)(task, program, tier, limits)
    except WrongError as error:
        return Verdict(0.0, code, str(error))
    except BrokenTestError as error:
        if _is_sound(task, row, tier, limits):
            return Verdict(0.0, code, f"on what the program returned, {error}")
        return Verdict(0.0, code, str(error), "not_gradable")
    except UngradableError as error:
        return Verdict(0.0, code, str(error), "not_gradable")
    return Verdict(1.0, code, passed)


def _is_sound(task: Task, row: Columns, tier: tiers.Tier, limits: tiers.Limits) -> bool:
    """Whether the row's own solution passes its test: then a test that broke did so on what another returned."""
    code = extract(str(row.get("reference", "")), task.entry_point)
    if code is None:
        return False
    try:
        return bool(_run_test(task, assemble(code, task.start(), task.entry_point), tier, limits))
    except (WrongError, UngradableError):
        return False


def same(tree: object, expected: object, tolerance: float) -> bool:
    """Whether what `wire` parsed stands for a JSON value, exactly."""
    if isinstance(expected, dict):
        if not (isinstance(tree, dict) and tree.keys() == {"dict"} and len(tree["dict"]) == len(expected)):
            return False
        items = [(key, value) for key, value in tree["dict"] if isinstance(key, str) and key in expected]
        return len(dict(items)) == len(expected) and all(same(value, expected[key], tolerance) for key, value in items)
    if type(tree) is not type(expected):
        return False
    if isinstance(expected, list) and isinstance(tree, list):
        return len(tree) == len(expected) and all(map(same, tree, expected, [tolerance] * len(tree)))
    if isinstance(expected, float) and isinstance(tree, float) and tolerance:
        return bool(abs(tree - expected) <= tolerance or tree == expected)
    return bool(tree == expected)


class Candidate:
    """The program's process, asked."""

    def __init__(self, process: tiers.Process, deadline: float) -> None:
        self.process, self.deadline, self.calls = process, deadline, 0

    def load(self, task: Task, program: Program, *, exact: bool) -> None:
        """Raises WrongError where the program does not load."""
        reply = self._ask(program.prelude, program.sources, task.entry_point, exact)
        if reply != ["loaded"]:
            raise WrongError(f"the program does not load: {_told(reply)}")

    def call(self, arguments: object, named: object) -> list[object]:
        """["returned", value] or ["raised", type, text], of `wire` trees in and out. Raises WrongError, WireError."""
        self.calls += 1
        reply = self._ask("call", arguments, named)
        match reply:
            case ["returned", _] | ["raised", str(), str()]:
                return reply
        raise WrongError(FORGED)

    def end(self) -> None:
        """Raises WrongError unless the program's process came through as many calls as were asked of it."""
        if self._ask("end") != ["ended", self.calls]:
            raise WrongError(FORGED)

    def _ask(self, *trees: object) -> list[object]:
        nonce = secrets.token_hex(16)
        try:
            self.process.send(nonce, *trees, deadline=self.deadline)
            reply = self.process.receive(deadline=self.deadline)
        except tiers.BrokenOffError as error:
            raise WrongError(f"the program {error}") from None
        if reply[0] != nonce:
            raise WrongError(FORGED)
        return reply[1:]


def _run_cases(task: Task, program: Program, tier: tiers.Tier, limits: tiers.Limits) -> str:
    with tiers.started(tier, "candidate", limits=limits) as [process]:
        candidate = Candidate(process, time.monotonic() + limits.seconds)
        candidate.load(task, program, exact=True)
        for number, case in enumerate(task.cases, 1):
            try:
                reply = candidate.call(wire.tree(case.args), wire.tree(case.kwargs))
            except wire.WireError as error:
                raise UngradableError(f"case {number}: {error}") from None
            place = f"case {number} of {len(task.cases)}"
            if reply[0] == "raised":
                raise WrongError(f"{place} raises {_told(reply)}")
            if not same(reply[1], case.expected, task.tolerance):
                raise WrongError(f"{place}: {_shown(reply[1])} is not {_shown(case.expected)}")
        candidate.end()
    return f"all {len(task.cases)} cases"


def _run_test(task: Task, program: Program, tier: tiers.Tier, limits: tiers.Limits) -> str:
    with tiers.started(tier, "candidate", "tester", limits=limits) as [process, tester]:
        deadline = time.monotonic() + limits.seconds
        candidate = Candidate(process, deadline)
        nonce = secrets.token_hex(16)
        try:
            tester.send(nonce, stub(task.start()), task.test, task.entry_point, deadline=deadline)
            said = _next(tester, nonce, deadline)
            if said[0] == "call":
                candidate.load(task, program, exact=False)
            while said[0] == "call":
                tester.send(*candidate.call(*said[1:]), deadline=deadline)
                said = _next(tester, nonce, deadline)
        except tiers.TooLateError:
            if candidate.calls:
                raise WrongError("the test did not end on what the program returned") from None
            raise UngradableError("the test took too long before it called the program") from None
        except tiers.BrokenOffError as error:
            fault = BrokenTestError if candidate.calls else UngradableError
            raise fault(f"the test's process {error}") from None
        outcome, calls, *reason = said
        if outcome == "broken" or not calls or calls != candidate.calls:
            fault = BrokenTestError if outcome == "broken" and candidate.calls else UngradableError
            raise fault(f"the test is broken: {_failure(task, reason) if reason else 'it calls nothing'}")
        if outcome == "failed":
            raise WrongError(_failure(task, reason))
        candidate.end()
    return f"the test passes, {calls} calls"


def _next(tester: tiers.Process, nonce: str, deadline: float) -> list[object]:
    said = tester.receive(deadline=deadline)
    if said[0] != nonce:
        raise tiers.BrokenOffError("answered with another nonce")
    return said[1:]


def _failure(task: Task, reason: list[object]) -> str:
    """kind, text and line of what a test raised, in words."""
    kind, text, line = reason
    where = f" in `{task.test.splitlines()[line - 1].strip()[:SHOWN]}`" if isinstance(line, int) and line else ""
    return f"{kind}{f': {text}' if text else ''}{where}"


def _told(reply: list[object]) -> str:
    return ": ".join(part for part in reply[1:] if part and isinstance(part, str))


def _shown(tree: object) -> str:
    text = wire.dump(tree).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
