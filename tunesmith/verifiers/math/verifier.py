r"""Compare a mathematical answer with the reference by math-verify (SymPy), in a process that can be killed.

The answer of a text is the expression that `final_answer` finds in it; `expression` and `equivalence` say which ways of
writing it are the same. Values are compared exactly: 0.5 is 1/2, 0.333333 is not 1/3, \sqrt{8} is 2\sqrt{2}. An answer
must be worked out: where the reference has no sum, integral, limit or factorial, an answer with one is wrong.

A completion that cannot be read, or not be compared within `SECONDS`, is no answer; with such a reference, the row is
not gradable. The limit is wall-clock time, so a machine so busy that it takes seconds for milliseconds of work can
change a verdict to no answer, but never to right.
"""

from functools import lru_cache

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers.math import worker
from tunesmith.verifiers.math.final_answer import final_expression
from tunesmith.verifiers.math.worker_process import Worker
from tunesmith.verifiers.verdict import Columns, Verdict

SECONDS = 5.0
"""Timeout of one comparison, in seconds of wall-clock time."""
WORKER = Worker(worker.__spec__.name)


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the answer of ``completion`` with that of the row's reference."""
    gold = final_expression(reference(row))
    if gold is None:
        return _not_gradable(reference(row), "has no mathematical answer")
    answer = final_expression(completion)
    if answer is None:
        return Verdict(0.0, None, "no mathematical answer in the completion", "no_answer")
    try:
        reply = WORKER.ask({"reference": gold, "completion": answer}, SECONDS)
    except OSError as error:
        return Verdict(0.0, None, f"the worker process does not start: {error}", "not_gradable")
    if reply is None:
        if not _is_readable(gold):
            return _not_gradable(gold, f"cannot be compared within {SECONDS:g} s")
        return Verdict(0.0, answer, f"not compared within {SECONDS:g} s, or within its memory", "no_answer")
    match reply["outcome"]:
        case "no reference":
            return _not_gradable(gold, "cannot be read")
        case "no completion":
            return Verdict(0.0, None, f"cannot be read: {answer[:80]!r}", "no_answer")
        case outcome:
            right = outcome == "same"
            return Verdict(float(right), answer, f"{answer[:80]} is {'' if right else 'not '}{gold[:80]}")


@lru_cache(maxsize=4096)
def _is_readable(gold: str) -> bool:
    """Whether the reference can be compared with itself in time, so that the completion is at fault."""
    return WORKER.ask({"reference": gold, "completion": gold}, SECONDS) == {"outcome": "same"}


def _not_gradable(gold: str, fault: str) -> Verdict:
    return Verdict(0.0, None, f"the reference {fault}: {gold[-80:]!r}", "not_gradable")
