"""Compare mathematical expressions with math-verify (SymPy), whose time and memory nothing here bounds: it runs in a
`worker`. math-verify's own time limit is off: it works in the main thread only, and does not stop a power of huge
numbers.
"""

from functools import lru_cache
from typing import Any, Literal

from tunesmith.verifiers.math import equivalence, expression, powers

Outcome = Literal["same", "different", "no reference", "no completion"]
"""The result of a comparison; "no reference" and "no completion" where one of them cannot be read."""
DIGITS = 50
"""Precision, in digits, of the numeric comparison of expressions that cannot be proved equal."""
NEAR = 1e-12
"""Relative difference above which numbers differ; math-verify's own limit is absolute."""


def prepare() -> None:
    """Import math-verify and have SymPy fill its caches, which takes two seconds."""
    for reference, completion in (("2^{10}", "1023"), ("(x+1)^2", r"\frac{x}{2}"), (r"\sin(x)", r"\sqrt{2}")):
        compare(reference, completion)


def compare(reference: str, completion: str) -> Outcome:
    """Compare two expressions as written; an operator that only the completion has repeats the question."""
    if equivalence.OPERATOR.search(completion) and not equivalence.OPERATOR.search(reference):
        return "different"
    gold, answer = expression.read(reference), expression.read(completion)
    if gold is None or any(_parsed(latex) is None for latex in gold.expressions()):
        return "no reference"
    if answer is None or any(_parsed(latex) is None for latex in answer.expressions()):
        return "no completion"
    return "same" if equivalence.same(gold, answer, _equal) else "different"


@lru_cache(maxsize=64)
def _parsed(latex: str) -> Any:
    """The SymPy expression, with exact decimals; None where the text is not one, or a number too large to write."""
    if powers.is_huge(latex):
        return None
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
