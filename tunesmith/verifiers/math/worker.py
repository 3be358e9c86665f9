"""Compare mathematical expressions with math-verify, as a process that can be killed.

    python -m tunesmith.verifiers.math.worker

It answers each line of JSON {reference, completion, seconds} on its input with a line of JSON {outcome} on its output:
"same", "different", or "no reference" or "no completion" where one of them cannot be read. It exits when its input
ends. Whatever happens to the parent, the system ends it within ``seconds``: an alarm without a handler does not wait
for the interpreter, which a power of huge numbers may block for ever.

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
"""Address space, in bytes; a number that needs more ends in an error, or ends this process."""
DIGITS = 50
"""Precision, in digits, of the numeric comparison of expressions that cannot be proved equal."""
NEAR = 1e-12
"""Relative difference above which numbers differ; math-verify's own limit is absolute."""
READY = b"ready\n"


def main() -> None:
    output = os.dup(1)
    os.dup2(2, 1)  # libraries must not print among the answers
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    logging.disable()
    _parsed("1")  # imports math-verify before the first timeout
    os.write(output, READY)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        outcome = compare(request["reference"], request["completion"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(output, json.dumps({"outcome": outcome}).encode() + b"\n")


def compare(reference: str, completion: str) -> str:
    """Compare two expressions as written."""
    gold, answer = expression.read(reference), expression.read(completion)
    if gold is None or any(_parsed(latex) is None for latex in gold.expressions()):
        return "no reference"
    if answer is None or any(_parsed(latex) is None for latex in answer.expressions()):
        return "no completion"
    return "same" if equivalence.same(gold, answer, _equal) else "different"


@lru_cache(maxsize=64)
def _parsed(latex: str) -> Any:
    """The SymPy expression, with exact decimals; None where the text is not one."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Basic, Float, Rational, nan, zoo

    rules = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    target = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=rules)
    parsed = parse(
        f"${latex}$", [target], fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
    )
    if not parsed or not hasattr(parsed[0], "atoms") or parsed[0].has(nan, zoo):
        return None
    value = parsed[0]  # a matrix where it is not Basic
    exact = {number: Rational(str(number)) for number in value.atoms(Float)}
    return value.xreplace(exact) if isinstance(value, Basic) else value.applyfunc(lambda x: x.xreplace(exact))


def _equal(reference: str, completion: str) -> bool:
    from math_verify import verify

    gold, answer = _parsed(reference), _parsed(completion)
    if gold is None or answer is None:
        return False
    return verify(gold, answer, numeric_precision=DIGITS, timeout_seconds=None) and _is_near(gold, answer)


def _is_near(gold: Any, answer: Any) -> bool:
    """Whether two numbers are equal up to `NEAR`; True where one of the two is not a number."""
    if not all(getattr(value, "is_number", False) for value in (gold, answer)):
        return True
    a, b = gold.evalf(DIGITS), answer.evalf(DIGITS)
    return bool(a == b or abs(a - b) <= NEAR * max(abs(a), abs(b)))


if __name__ == "__main__":
    main()
