"""Verifiers, by the name that params.yaml uses: each a pure function from completion and reference to a verdict."""

from collections.abc import Callable
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from tunesmith.verifiers import number
from tunesmith.verifiers.verdict import Verdict

VERIFIERS: dict[str, Callable[[str, str], Verdict]] = {
    "number": number.verify,
}


def _check_known(name: str) -> str:
    if name not in VERIFIERS:
        raise ValueError(f"unknown verifier {name!r}; there is {', '.join(VERIFIERS)}")
    return name


Name: TypeAlias = Annotated[str, AfterValidator(_check_known)]
"""A param that names a verifier."""
