r"""Compare a mathematical answer with the reference by math-verify (SymPy).

The answer of a text is the expression that `final_answer` finds in it; `expression` and `equivalence` say which ways of
writing it are the same. Values are compared exactly: 0.5 is 1/2, 0.333333 is not 1/3, \sqrt{8} is 2\sqrt{2}. An answer
must be worked out: where the reference has no sum, integral, limit or factorial, an answer with one is wrong.

A completion that cannot be read is no answer; with such a reference, the row is not gradable. Nothing here bounds the
time of a comparison, so the `catalog` runs it in a process that can be killed.
"""

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers.math import comparison
from tunesmith.verifiers.math.final_answer import final_expression
from tunesmith.verifiers.verdict import Columns, Verdict


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the answer of ``completion`` with that of the row's reference."""
    gold = final_expression(reference(row))
    if gold is None:
        return _not_gradable(reference(row), "has no mathematical answer")
    answer = final_expression(completion)
    if answer is None:
        return Verdict(0.0, None, "no mathematical answer in the completion", "no_answer")
    match comparison.compare(gold, answer):
        case "no reference":
            return _not_gradable(gold, "cannot be read")
        case "no completion":
            return Verdict(0.0, None, f"cannot be read: {answer[:80]!r}", "no_answer")
        case outcome:
            right = outcome == "same"
            return Verdict(float(right), answer, f"{answer[:80]} is {'' if right else 'not '}{gold[:80]}")


def _not_gradable(gold: str, fault: str) -> Verdict:
    return Verdict(0.0, None, f"the reference {fault}: {gold[-80:]!r}", "not_gradable")
