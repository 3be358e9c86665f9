"""Does a row's own answer get full marks from its own verifier? One that does not would teach, or pay for, others."""

from tunesmith import verifiers
from tunesmith.ready import Row
from tunesmith.verifiers import VERIFIERS


def fault(row: Row) -> str | None:
    """What is wrong; None where nothing is, or the row names no verifier that is here.

    A row may bring a worked solution and its answer apart; then they must agree.
    """
    name = row.get("verifier", "")
    if name not in VERIFIERS:
        return None
    lacking = verifiers.lacking(name, row)
    if lacking:
        return f"cannot be graded: {name} needs {' and '.join(map(repr, lacking))}"
    gold = verifiers.gold(name, row)
    if gold is None:
        return None
    verdict = verifiers.verify(name, row["completion"][-1]["content"] if "completion" in row else gold, row)
    return None if verdict.score == 1 else f"answer not right by its own verifier: {name}: {verdict.reason}"
