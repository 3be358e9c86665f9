"""Rows that are asked the same and do not answer, or prefer, the same."""

from tunesmith import ready, splits, verifiers
from tunesmith.ready import Row, reference
from tunesmith.verifiers import VERIFIERS


def find(rows: dict[int, Row]) -> dict[int, int]:
    """Of rows that are asked the same, those that contradict another: position -> position of one that they contradict.

    Which of them is right, nobody knows. The time is linear in the number of rows.
    """
    if len(rows) < 2:
        return {}
    return _reversed_pairs(rows) if any("chosen" in row for row in rows.values()) else _unlike_the_first(rows)


def _unlike_the_first(rows: dict[int, Row]) -> dict[int, int]:
    """All rows, each with one that answers otherwise, unless all answer the same."""
    first, *others = rows
    unlike = {position: first for position in others if not _agree(rows[first], rows[position])}
    if not unlike:
        return {}
    return {position: unlike.get(position, next(iter(unlike))) for position in rows}


def _agree(one: Row, other: Row) -> bool:
    if "reference" not in one and "completion" not in one:
        return {**one, "id": ""} == {**other, "id": ""}
    name = one.get("verifier", "")
    if name not in VERIFIERS or verifiers.gold(name, one) is None:
        return splits.normal(reference(one)) == splits.normal(reference(other))
    return verifiers.verify(name, verifiers.gold(name, one) or "", other).score == 1


def _reversed_pairs(rows: dict[int, Row]) -> dict[int, int]:
    """Pairs of which another prefers the opposite."""
    sides = {position: (ready.dumps(row["chosen"]), ready.dumps(row["rejected"])) for position, row in rows.items()}
    known = {pair: position for position, pair in sides.items()}
    return {position: known[r, c] for position, (c, r) in sides.items() if (r, c) in known}
