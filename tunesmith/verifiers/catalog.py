"""Verifiers, by the name that params.yaml uses: each a pure function from completion and row to a verdict."""

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers import choice, code, exact, instructions, json_schema, length, number, refusal, regex
from tunesmith.verifiers.math import verifier
from tunesmith.verifiers.verdict import Columns, Verdict, Verifier

VERIFIERS: dict[str, Verifier] = {
    "choice": Verifier(choice.verify, may=("choices",)),
    "code": Verifier(code.verify, needs=("entry_point", "reference"), may=("test", "cases", "tolerance")),
    "exact": Verifier(exact.verify),
    "instructions": Verifier(instructions.verify, needs=("instructions", "settings")),
    "json_schema": Verifier(json_schema.verify, needs=("schema",), may=("reference",)),
    "length": Verifier(length.verify, needs=(), may=length.BOUNDS),
    "math": Verifier(verifier.verify),
    "number": Verifier(number.verify),
    "refusal": Verifier(refusal.verify, needs=("label",)),
    "regex": Verifier(regex.verify, needs=("pattern",), may=("anywhere",)),
}


def verify(name: str, completion: str, row: Columns) -> Verdict:
    """What the verifier says of ``completion``; not gradable where the row lacks what it needs."""
    missing = lacking(name, row)
    if missing:
        return Verdict(0.0, None, f"the row has no {' and no '.join(map(repr, missing))}", "not_gradable")
    return VERIFIERS[name].verify(completion, row)


def lacking(name: str, row: Columns) -> list[str]:
    """What the verifier needs and the row has not."""
    there = row.keys() | {"reference"} if isinstance(row.get("completion"), list) else row.keys()
    return [key for key in VERIFIERS[name].needs if key not in there]


def gold(name: str, row: Columns) -> str | None:
    """What must get full marks as an answer to the row; None for a verifier that compares with nothing.

    Of several right answers, the first.
    """
    if "reference" not in VERIFIERS[name].needs:
        return None
    several = row.get("reference")
    return str(several[0]) if isinstance(several, list) and several else reference(row)


def read_by(name: str, row: Columns) -> dict[str, object]:
    """What the verifier reads of the row."""
    verifier = VERIFIERS[name]
    return {key: row[key] for key in (*verifier.needs, *verifier.may) if key in row}
