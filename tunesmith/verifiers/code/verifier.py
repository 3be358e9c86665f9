"""Run a program against its tests in the sandbox; the expected results stay outside.

A row names the function, ``entry_point``, and has one of

    cases   [{"args": [...], "kwargs": {...}, "expected": ...}, ...]: compared here, by exact built-in type (1 is
            not True, 1.0 or "1"; a tuple is not a list) and value; floats within ``tolerance`` where the row has one
    test    HumanEval's: the text of a ``check(candidate)`` that asserts. It runs in a sandboxed process of its own,
            where every call of ``candidate`` is a message that this process passes on to the program's

so that the program's process gets its inputs and nothing else. Arguments are passed by value: a function cannot be one,
and a test cannot see them changed. A test's ``==`` is Python's own, so a subclass (a Counter) counts as its base.

A program is wrong if it fails to load, raises, exits early, takes too long or returns a value of another type. A row is
not gradable if the failure is not the program's: no sandbox, or a test that does not load, uses undefined names, calls
nothing, or runs what the program returns (see `refused_tests`). A program cannot choose not to be graded: a test that
does not end after its first call is the program's failure, and so is a test that breaks then, if the row's own solution
passes it.
"""

import secrets
import time
from typing import cast

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.core.errors import SandboxError
from tunesmith.core.ready_rows import Message, content_text
from tunesmith.verifiers.code import refused_tests
from tunesmith.verifiers.code.program import Program, assemble, extract, stub
from tunesmith.verifiers.sandbox import tiers, wire
from tunesmith.verifiers.verdict import Columns, Verdict

LONGEST_SHOWN = 120
"""Characters of a value in a reason."""
FORGED = "the program answered for the sandbox"


class Case(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    args: list[object]
    kwargs: dict[str, object] = {}
    expected: object


class CodeProblem(BaseModel):
    """The columns of a row that the verifier reads."""

    model_config = ConfigDict(strict=True)
    entry_point: str
    prompt: list[dict[str, object]] = []
    test: str = ""
    cases: list[Case] = []
    tolerance: float = 0.0

    def prompt_text(self) -> str:
        """The text of the last user message, which a program may continue."""
        turns = [turn for turn in self.prompt if turn.get("role") == "user" and "content" in turn]
        texts = [content_text(cast("Message", turn)) for turn in turns]
        return texts[-1] if texts else ""


class WrongProgramError(Exception):
    """The program is wrong; the text is the reason."""


class UngradableError(Exception):
    """The row or the machine is at fault; the text is the reason."""


class BrokenTestError(UngradableError):
    """The test broke after a call had returned: by itself, or because of the returned value."""


def verify(completion: str, row: Columns) -> Verdict:
    """Score 1 where every case or the whole test passes, else 0, in the first tier of the sandbox that holds here."""
    try:
        return grade(completion, row, tiers.tier())
    except SandboxError as error:
        return Verdict(0.0, None, str(error), "not_gradable")


def grade(completion: str, row: Columns, tier: tiers.Tier, limits: tiers.Limits = tiers.LIMITS) -> Verdict:
    """`verify` in a given tier. Raises SandboxError where the sandbox does not start."""
    try:
        problem = CodeProblem.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        return Verdict(0.0, None, f"row: {'.'.join(map(str, first['loc']))}: {first['msg']}", "not_gradable")
    if bool(problem.cases) == bool(problem.test):
        return Verdict(0.0, None, "a row has either `cases` or a `test`", "not_gradable")
    refused = refused_tests.reason(problem.test) or refused_tests.reason(stub(problem.prompt_text()))
    if problem.test and refused:
        return Verdict(0.0, None, refused, "not_gradable")
    code = extract(completion, problem.entry_point)
    if code is None:
        return Verdict(0.0, None, "no code in the completion", "no_answer")
    program = assemble(code, problem.prompt_text(), problem.entry_point)
    try:
        summary = (_run_cases if problem.cases else _run_test)(problem, program, tier, limits)
    except WrongProgramError as error:
        return Verdict(0.0, code, str(error))
    except BrokenTestError as error:
        if _own_solution_passes(problem, row, tier, limits):
            return Verdict(0.0, code, f"on what the program returned, {error}")
        return Verdict(0.0, code, str(error), "not_gradable")
    except UngradableError as error:
        return Verdict(0.0, code, str(error), "not_gradable")
    return Verdict(1.0, code, summary)


def _own_solution_passes(problem: CodeProblem, row: Columns, tier: tiers.Tier, limits: tiers.Limits) -> bool:
    """Whether the row's own solution passes its test, so that a broken test is the fault of what a program returned."""
    code = extract(str(row.get("reference", "")), problem.entry_point)
    if code is None:
        return False
    try:
        _run_test(problem, assemble(code, problem.prompt_text(), problem.entry_point), tier, limits)
    except (WrongProgramError, UngradableError):
        return False
    return True


def _is_equal(tree: object, expected: object, tolerance: float) -> bool:
    """Whether a parsed tree of `wire` stands for exactly this JSON value; floats may differ by ``tolerance``."""
    if isinstance(expected, dict):
        if not (isinstance(tree, dict) and tree.keys() == {"dict"} and len(tree["dict"]) == len(expected)):
            return False
        items = [(key, value) for key, value in tree["dict"] if isinstance(key, str) and key in expected]
        return len(dict(items)) == len(expected) and all(
            _is_equal(value, expected[key], tolerance) for key, value in items
        )
    if type(tree) is not type(expected):
        return False
    if isinstance(expected, list) and isinstance(tree, list):
        return len(tree) == len(expected) and all(map(_is_equal, tree, expected, [tolerance] * len(tree)))
    if isinstance(expected, float) and isinstance(tree, float) and tolerance:
        return bool(abs(tree - expected) <= tolerance or tree == expected)
    return bool(tree == expected)


class ProgramProcess:
    """The sandboxed process of a program, and the number of its calls."""

    def __init__(self, process: tiers.Process, deadline: float) -> None:
        self.process, self.deadline, self.calls = process, deadline, 0

    def load(self, problem: CodeProblem, program: Program, *, exact: bool) -> None:
        """Load the program. Raises WrongProgramError where that fails.

        exact: whether a returned instance of a subclass is refused, instead of counted as its built-in base.
        """
        reply = self._ask(program.prelude, program.sources, problem.entry_point, exact)
        if reply != ["loaded"]:
            raise WrongProgramError(f"the program does not load: {_error_text(reply)}")

    def call(self, arguments: object, named: object) -> list[object]:
        """Call the function; the reply is ["returned", value] or ["raised", type, text]. Values are `wire` trees.

        Raises WrongProgramError, WireError.
        """
        self.calls += 1
        reply = self._ask("call", arguments, named)
        match reply:
            case ["returned", _] | ["raised", str(), str()]:
                return reply
        raise WrongProgramError(FORGED)

    def end(self) -> None:
        """Raise WrongProgramError unless the process has counted as many calls as it was sent."""
        if self._ask("end") != ["ended", self.calls]:
            raise WrongProgramError(FORGED)

    def _ask(self, *trees: object) -> list[object]:
        nonce = secrets.token_hex(16)
        try:
            self.process.send(nonce, *trees, deadline=self.deadline)
            reply = self.process.receive(deadline=self.deadline)
        except tiers.ProcessError as error:
            raise WrongProgramError(f"the program {error}") from None
        if reply[0] != nonce:
            raise WrongProgramError(FORGED)
        return reply[1:]


def _run_cases(problem: CodeProblem, program: Program, tier: tiers.Tier, limits: tiers.Limits) -> str:
    """Run every case, and return a summary. Raises WrongProgramError, UngradableError."""
    with tiers.open_processes(tier, "candidate", limits=limits) as [process]:
        candidate = ProgramProcess(process, time.monotonic() + limits.seconds)
        candidate.load(problem, program, exact=True)
        for number, case in enumerate(problem.cases, 1):
            try:
                reply = candidate.call(wire.tree(case.args), wire.tree(case.kwargs))
            except wire.WireError as error:
                raise UngradableError(f"case {number}: {error}") from None
            place = f"case {number} of {len(problem.cases)}"
            if reply[0] == "raised":
                raise WrongProgramError(f"{place} raises {_error_text(reply)}")
            if not _is_equal(reply[1], case.expected, problem.tolerance):
                raise WrongProgramError(f"{place}: {_shortened(reply[1])} is not {_shortened(case.expected)}")
        candidate.end()
    return f"all {len(problem.cases)} cases"


def _run_test(problem: CodeProblem, program: Program, tier: tiers.Tier, limits: tiers.Limits) -> str:
    """Run the test, and return a summary. Raises WrongProgramError, UngradableError."""
    with tiers.open_processes(tier, "candidate", "tester", limits=limits) as [process, tester]:
        deadline = time.monotonic() + limits.seconds
        candidate = ProgramProcess(process, deadline)
        nonce = secrets.token_hex(16)
        try:
            tester.send(nonce, stub(problem.prompt_text()), problem.test, problem.entry_point, deadline=deadline)
            message = _receive(tester, nonce, deadline)
            if message[0] == "call":
                candidate.load(problem, program, exact=False)
            while message[0] == "call":
                tester.send(*candidate.call(*message[1:]), deadline=deadline)
                message = _receive(tester, nonce, deadline)
        except tiers.DeadlineError:
            if candidate.calls:
                raise WrongProgramError("the test did not end on what the program returned") from None
            raise UngradableError("the test took too long before it called the program") from None
        except tiers.ProcessError as error:
            fault = BrokenTestError if candidate.calls else UngradableError
            raise fault(f"the test's process {error}") from None
        outcome, calls, *failure = message
        if outcome == "broken" or not calls or calls != candidate.calls:
            fault = BrokenTestError if outcome == "broken" and candidate.calls else UngradableError
            raise fault(f"the test is broken: {_failure_text(problem, failure) if failure else 'it calls nothing'}")
        if outcome == "failed":
            raise WrongProgramError(_failure_text(problem, failure))
        candidate.end()
    return f"the test passes, {calls} calls"


def _receive(tester: tiers.Process, nonce: str, deadline: float) -> list[object]:
    message = tester.receive(deadline=deadline)
    if message[0] != nonce:
        raise tiers.ProcessError("answered with another nonce")
    return message[1:]


def _failure_text(problem: CodeProblem, failure: list[object]) -> str:
    """The type, text and line of the error that a test raised, in words."""
    kind, text, line = failure
    where = ""
    if isinstance(line, int) and line:
        where = f" in `{problem.test.splitlines()[line - 1].strip()[:LONGEST_SHOWN]}`"
    return f"{kind}{f': {text}' if text else ''}{where}"


def _error_text(reply: list[object]) -> str:
    return ": ".join(part for part in reply[1:] if part and isinstance(part, str))


def _shortened(tree: object) -> str:
    text = wire.dump(tree).decode()
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
