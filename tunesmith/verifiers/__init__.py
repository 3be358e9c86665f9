"""Verifiers, by the name that params.yaml uses: each a pure function from completion and reference to a verdict."""

from collections.abc import Callable

from tunesmith.errors import ParamsError
from tunesmith.verifiers import number
from tunesmith.verifiers.verdict import Verdict

VERIFIERS: dict[str, Callable[[str, str], Verdict]] = {
    "number": number.verify,
}


def named(name: str) -> Callable[[str, str], Verdict]:
    """The verifier called ``name``. Raises ParamsError for an unknown one."""
    if name not in VERIFIERS:
        raise ParamsError(
            f"params.yaml: evaluate.verifier: unknown verifier {name!r}", fix=f"use one of {', '.join(VERIFIERS)}"
        )
    return VERIFIERS[name]
