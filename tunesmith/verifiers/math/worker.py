"""Compares mathematical expressions with math-verify, as a process that can be killed.

    python -m tunesmith.verifiers.math.worker

Answers each line of JSON {reference, completion, seconds} on its input with one of JSON {outcome} on its output:
"same", "different", "no reference" or "no completion", for what cannot be read. It ends with its input. Whatever
happens to the process that asked, the system ends it within ``seconds``: an alarm without a handler needs no turn of
the interpreter, which a power of huge numbers may never give up.

math-verify's own time limit is off: it works in the main thread only, and leaves such powers running.
"""

import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from tunesmith.verifiers.math import equivalence, expression

MEMORY = 1 << 30
"""Bytes of address space; a number that needs more ends in an error, or ends this process."""
DIGITS = 50
"""Of precision, where two expressions without a proof of being equal are compared as numbers."""
NEAR = 1e-12
"""Relative difference from which numbers differ: math-verify compares with an absolute one."""
READY = b"ready\n"


def main() -> None:
    output = os.dup(1)
    os.dup2(2, 1)  # what the libraries print is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    logging.disable()
    _parsed("1")  # imports math-verify, before time is taken
    os.write(output, READY)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        outcome = compare(request["reference"], request["completion"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(output, json.dumps({"outcome": outcome}).encode() + b"\n")


def compare(reference: str, completion: str) -> str:
    """Compare two expressions as they are written."""
    gold, found = expression.read(reference), expression.read(completion)
    if gold is None or any(_parsed(one) is None for one in gold.expressions()):
        return "no reference"
    if found is None or any(_parsed(one) is None for one in found.expressions()):
        return "no completion"
    return "same" if equivalence.same(gold, found, _equal) else "different"


@lru_cache(maxsize=64)
def _parsed(latex: str) -> Any:
    """The SymPy expression, its decimals exact; None where there is none."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Basic, Float, Rational, nan, zoo

    rules = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    target = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=rules)
    found = parse(
        f"${latex}$", [target], fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
    )
    if not found or not hasattr(found[0], "atoms") or found[0].has(nan, zoo):
        return None
    exact = {number: Rational(str(number)) for number in found[0].atoms(Float)}
    return found[0].xreplace(exact) if isinstance(found[0], Basic) else found[0].applyfunc(lambda x: x.xreplace(exact))


def _equal(reference: str, completion: str) -> bool:
    from math_verify import verify

    gold, found = _parsed(reference), _parsed(completion)
    if gold is None or found is None:
        return False
    return verify(gold, found, numeric_precision=DIGITS, timeout_seconds=None) and _is_near(gold, found)


def _is_near(gold: Any, found: Any) -> bool:
    """Whether two numbers are one; true of everything that is no number."""
    if not all(getattr(one, "is_number", False) for one in (gold, found)):
        return True
    one, other = gold.evalf(DIGITS), found.evalf(DIGITS)
    return bool(one == other or abs(one - other) <= NEAR * max(abs(one), abs(other)))


if __name__ == "__main__":
    main()
