r"""Is the mathematical answer the reference's? Compared by math-verify (SymPy), in a process that can be killed.

The answer of a text is the one expression that `final` finds in it; `expression` and `answer` say what may be written
otherwise. Values are compared exactly: 0.5 is 1/2, 0.333333 is not 1/3, \sqrt{8} is 2\sqrt{2}. An answer must be
worked out: where the reference has no sum, integral, limit or factorial, one that has is wrong.

A completion that cannot be read, or not be compared within `SECONDS`, is no answer; a reference that cannot, is not
gradable. The limit is a wall clock's, so a machine so busy that it takes seconds for milliseconds of work can change
a verdict to no answer, never to right.
"""

from functools import lru_cache

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers.math import worker
from tunesmith.verifiers.math.final_answer import final
from tunesmith.verifiers.math.worker_process import Worker
from tunesmith.verifiers.verdict import Columns, Verdict

SECONDS = 5.0
"""Of wall-clock time that one comparison may take."""
WORKER = Worker(worker.__spec__.name)


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the answer of ``completion`` with that of the row's reference."""
    gold = final(reference(row))
    if gold is None:
        return _not_gradable(reference(row), "has no mathematical answer")
    found = final(completion)
    if found is None:
        return Verdict(0.0, None, "no mathematical answer in the completion", "no_answer")
    try:
        reply = WORKER.ask({"reference": gold, "completion": found}, SECONDS)
    except OSError as error:
        return Verdict(0.0, None, f"the process that compares does not start: {error}", "not_gradable")
    if reply is None:
        if not _is_readable(gold):
            return _not_gradable(gold, f"cannot be compared within {SECONDS:g} s")
        return Verdict(0.0, found, f"not compared within {SECONDS:g} s, or within its memory", "no_answer")
    match reply["outcome"]:
        case "no reference":
            return _not_gradable(gold, "cannot be read")
        case "no completion":
            return Verdict(0.0, None, f"cannot be read: {found[:80]!r}", "no_answer")
        case outcome:
            right = outcome == "same"
            return Verdict(float(right), found, f"{found[:80]} is {'' if right else 'not '}{gold[:80]}")


@lru_cache(maxsize=4096)
def _is_readable(gold: str) -> bool:
    """Whether the reference equals itself in time: then it is the completion that cannot be compared."""
    return WORKER.ask({"reference": gold, "completion": gold}, SECONDS) == {"outcome": "same"}


def _not_gradable(gold: str, why: str) -> Verdict:
    return Verdict(0.0, None, f"the reference {why}: {gold[-80:]!r}", "not_gradable")
