"""The names of the verifiers, apart from their code: a module that only checks a name does not depend on a verifier."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator

NAMES = (
    "choice",
    "code",
    "exact",
    "instructions",
    "json_schema",
    "length",
    "math",
    "number",
    "refusal",
    "regex",
    "tool_call",
)


def _check_known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown verifier {name!r}; use one of {', '.join(NAMES)}")
    return name


RefusalBy: TypeAlias = Literal["rules", "judge"]
"""Who classifies refusals: the rules of the verifier `refusal`, or the judge of params.yaml."""
VerifierName: TypeAlias = Annotated[str, AfterValidator(_check_known)]
"""A param that names a verifier."""
