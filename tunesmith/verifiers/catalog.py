"""The verifiers by the names that params.yaml uses, and the columns of a row that each one reads.

A verifier whose time nothing bounds runs in a process that can be killed (`worker`), of which this module is the
inside as well. An answer that it cannot grade within `pool.SECONDS` is no answer; where the row's own answer takes as
long, the row is not gradable.
"""

import json
import re
from dataclasses import asdict
from functools import lru_cache

from tunesmith.core.ready_rows import Row, answer_text, reference, split_reasoning
from tunesmith.verifiers import choice, exact, instructions, length, number, regex, visible
from tunesmith.verifiers.code import verifier as code
from tunesmith.verifiers.json_schema import verifier as json_schema
from tunesmith.verifiers.math import comparison
from tunesmith.verifiers.math import verifier as math
from tunesmith.verifiers.refusal import verifier as refusal
from tunesmith.verifiers.tool_call import verifier as tool_call
from tunesmith.verifiers.verdict import Columns, Verdict, Verifier
from tunesmith.verifiers.worker import pool

VERIFIERS: dict[str, Verifier] = {
    "choice": Verifier(choice.verify, optional=("choices",)),
    "code": Verifier(code.verify, needs=("entry_point", "reference"), optional=("test", "cases", "tolerance")),
    "exact": Verifier(exact.verify),
    "instructions": Verifier(
        instructions.verify, needs=("instructions", "settings"), unbounded=True, prepare=instructions.prepare
    ),
    "json_schema": Verifier(json_schema.verify, needs=("schema",), optional=("reference",), unbounded=True),
    "length": Verifier(length.verify, needs=(), optional=length.BOUNDS),
    "math": Verifier(math.verify, unbounded=True, prepare=comparison.prepare),
    "number": Verifier(number.verify),
    "refusal": Verifier(refusal.verify, needs=("label",)),
    "regex": Verifier(regex.verify, needs=("pattern",), optional=("anywhere",)),
    "tool_call": Verifier(tool_call.verify, gold=tool_call.right_answer),
}
CLOSING = re.compile(r"</\\?\w*(?:think|thought|reason)")
"""An end of reasoning that a pattern asks for."""
POOLS = {name: pool.Pool(__name__, name) for name, verifier in VERIFIERS.items() if verifier.unbounded}
"""The worker processes of each verifier that needs them."""


def verify(name: str, completion: str, row: Columns) -> Verdict:
    """Grade ``completion``; not gradable where the row lacks a column that the verifier needs.

    What a model thinks between tags before its answer is no part of it, unless a pattern asks for those tags. A
    completion without a visible character is no answer, whatever the verifier.
    """
    missing = missing_columns(name, row)
    if missing:
        return Verdict(0.0, None, f"the row has no {' and no '.join(map(repr, missing))}", "not_gradable")
    if "<" in completion and not (name == "regex" and CLOSING.search(str(row.get("pattern")))):
        reasoning, completion = split_reasoning(completion)
        if reasoning and not completion:
            return Verdict(0.0, None, "nothing follows the reasoning, or it does not end", "no_answer")
    if not VERIFIERS[name].unbounded:
        verdict = VERIFIERS[name].verify(completion, row)
    else:
        verdict = _verify_in_worker(name, completion, row)
    if verdict.status != "not_gradable" and visible.is_blank(completion):
        return Verdict(0.0, None, "nothing in the completion is visible", "no_answer")
    return verdict


def _verify_in_worker(name: str, completion: str, row: Columns) -> Verdict:
    columns = columns_read(name, row) | {column: row[column] for column in ("completion",) if column in row}
    try:
        reply = POOLS[name].ask({"name": name, "completion": completion, "row": columns})
        if reply is not None:
            return Verdict(**reply)  # type: ignore[arg-type]  # what `reply` made of a verdict
        if not _grades_its_own(name, json.dumps(columns)):
            return Verdict(0.0, None, f"the row's own answer takes over {pool.SECONDS:g} s to grade", "not_gradable")
    except OSError as error:
        return Verdict(0.0, None, str(error), "not_gradable")
    except TypeError as error:
        return Verdict(0.0, None, f"the row is not JSON: {error}", "not_gradable")
    return Verdict(0.0, None, f"not graded within {pool.SECONDS:g} s, or within its memory", "no_answer")


@lru_cache(maxsize=4096)
def _grades_its_own(name: str, columns: str) -> bool:
    """Whether the row's own answer, where it has one, is graded in time, so that the completion is at fault."""
    row = json.loads(columns)
    own = gold(name, row)
    return own is None or POOLS[name].ask({"name": name, "completion": own, "row": row}) is not None


def prepare(name: str) -> None:
    """In a worker: import what a verifier needs."""
    VERIFIERS[name].prepare()


def reply(request: dict[str, object]) -> dict[str, object]:
    """In a worker: the fields of the verdict on a request of `verify`."""
    name, completion, row = request["name"], request["completion"], request["row"]
    assert isinstance(row, dict)
    return asdict(VERIFIERS[str(name)].verify(str(completion), row))


def missing_columns(name: str, row: Columns) -> list[str]:
    """The columns that the verifier needs and the row lacks."""
    columns = row.keys() | {"reference"} if isinstance(row.get("completion"), list) else row.keys()
    return [column for column in VERIFIERS[name].needs if column not in columns]


def ungradable(name: str, row: Columns) -> str | None:
    """Why the verifier can grade no answer to a row without a reference, such as an instruction without a rule.

    None where it can, and where the row has a reference, by which its own answer tells.
    """
    if missing_columns(name, row):
        return f"{name} needs {' and '.join(map(repr, missing_columns(name, row)))}"
    if gold(name, row) is not None or name == "refusal":
        return refusal.unusable(row) if name == "refusal" else None
    verdict = verify(name, "An answer.", row)
    return verdict.reason if verdict.status == "not_gradable" else None


def gold(name: str, row: Columns) -> str | None:
    """The row's right answer, or the first of several; None where the verifier needs no reference."""
    if "reference" not in VERIFIERS[name].needs:
        return None
    own = VERIFIERS[name].gold
    if own is not None:
        return own(row)
    accepted = row.get("reference")
    return str(accepted[0]) if isinstance(accepted, list) and accepted else reference(row)


def columns_read(name: str, row: Columns) -> dict[str, object]:
    """The columns of the row that the verifier reads."""
    entry = VERIFIERS[name]
    return {column: row[column] for column in (*entry.needs, *entry.optional) if column in row}


def check_own_answer(row: Row) -> str | None:
    """Return why a row's verifier does not give its own answer full marks; None where it does or is not known here.

    A row with a worked solution and its answer in two columns is checked for their agreement.
    """
    name = row.get("verifier", "")
    if name not in VERIFIERS:
        return None
    if reason := ungradable(name, row):
        return f"cannot be graded: {reason}"
    right = gold(name, row)
    if right is None:
        return None
    verdict = verify(name, answer_text(row["completion"][-1]) if "completion" in row else right, row)
    return None if verdict.score == 1 else f"answer not right by its own verifier: {name}: {verdict.reason}"
