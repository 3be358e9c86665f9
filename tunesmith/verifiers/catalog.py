"""The verifiers by the names that params.yaml uses, and the columns of a row that each one reads."""

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers import choice, code, exact, instructions, json_schema, length, number, refusal, regex
from tunesmith.verifiers.math import verifier
from tunesmith.verifiers.verdict import Columns, Verdict, Verifier

VERIFIERS: dict[str, Verifier] = {
    "choice": Verifier(choice.verify, optional=("choices",)),
    "code": Verifier(code.verify, needs=("entry_point", "reference"), optional=("test", "cases", "tolerance")),
    "exact": Verifier(exact.verify),
    "instructions": Verifier(instructions.verify, needs=("instructions", "settings")),
    "json_schema": Verifier(json_schema.verify, needs=("schema",), optional=("reference",)),
    "length": Verifier(length.verify, needs=(), optional=length.BOUNDS),
    "math": Verifier(verifier.verify),
    "number": Verifier(number.verify),
    "refusal": Verifier(refusal.verify, needs=("label",)),
    "regex": Verifier(regex.verify, needs=("pattern",), optional=("anywhere",)),
}


def verify(name: str, completion: str, row: Columns) -> Verdict:
    """Grade ``completion``; not gradable where the row lacks a column that the verifier needs."""
    missing = missing_columns(name, row)
    if missing:
        return Verdict(0.0, None, f"the row has no {' and no '.join(map(repr, missing))}", "not_gradable")
    return VERIFIERS[name].verify(completion, row)


def missing_columns(name: str, row: Columns) -> list[str]:
    """The columns that the verifier needs and the row lacks."""
    columns = row.keys() | {"reference"} if isinstance(row.get("completion"), list) else row.keys()
    return [column for column in VERIFIERS[name].needs if column not in columns]


def gold(name: str, row: Columns) -> str | None:
    """The row's right answer, or the first of several; None where the verifier needs no reference."""
    if "reference" not in VERIFIERS[name].needs:
        return None
    accepted = row.get("reference")
    return str(accepted[0]) if isinstance(accepted, list) and accepted else reference(row)


def columns_read(name: str, row: Columns) -> dict[str, object]:
    """The columns of the row that the verifier reads."""
    entry = VERIFIERS[name]
    return {column: row[column] for column in (*entry.needs, *entry.optional) if column in row}
