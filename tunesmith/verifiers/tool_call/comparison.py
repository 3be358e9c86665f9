"""Compare tool calls with those that are right, whatever their order.

Values are equal as JSON values: 1 is 1.0 and not true, texts are equal to the letter. Each call needs a right call of
its own (a perfect matching), so that two parallel calls of one tool are told apart by their arguments.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jiter

from tunesmith.verifiers.tool_call.parsing import Call, Untyped

SHOWN = 60
"""Characters of a value that a reason shows."""


class Right(NamedTuple):
    """A call that is right: each argument may have any of several values, and "" among them allows to leave it out."""

    name: str
    allowed: dict[str, list[object]]


def difference(made: Sequence[Call], right: Sequence[Right]) -> str | None:
    """Return why calls are not the right ones; None where they are."""
    if not made and right:
        return f"not called: {_listed(call.name for call in right)}"
    if made and not right:
        return f"called where nothing is to be called: {_listed(call.name for call in made)}"
    names = Counter(call.name for call in made)
    wrong = names - Counter(call.name for call in right)
    if wrong and len(made) <= len(right):
        lacking = Counter(call.name for call in right) - names
        return f"wrong name: {_listed(wrong)}, not {_listed(lacking)}"
    if len(made) != len(right):
        return f"wrong number of calls: {len(made)}, not {len(right)}"
    reasons = [[_argument(call, one) for one in right] for call in made]
    unmatched = _unmatched([[reason is None for reason in row] for row in reasons])
    if unmatched is None:
        return None
    of_name = [
        reason for reason, one in zip(reasons[unmatched], right, strict=True) if one.name == made[unmatched].name
    ]
    return next(
        (reason for reason in of_name if reason), f"wrong argument: {made[unmatched].name} is called twice alike"
    )


def _argument(call: Call, right: Right) -> str | None:
    """Return why a call is not this right one; None where it is."""
    if call.name != right.name:
        return f"wrong name: {call.name}, not {right.name}"
    for name, value in call.arguments.items():
        if name not in right.allowed:
            return f"wrong argument: {right.name} gets {name!r}, which is not asked for"
        if not any(_same(value, option) for option in right.allowed[name]):
            expected = " or ".join(repr(option)[:SHOWN] for option in right.allowed[name] if option != "")
            return f"wrong argument: {name!r} of {right.name} is {str(value)[:SHOWN]!r}, not {expected}"
    missing = [name for name, options in right.allowed.items() if name not in call.arguments and "" not in options]
    return f"wrong argument: {right.name} lacks {missing[0]!r}" if missing else None


def _same(value: object, right: object) -> bool:
    """Tell whether a value is equal to the right one, or to what an object of allowed values allows."""
    if _equal(value, right):
        return True
    if isinstance(value, dict) and isinstance(right, dict) and all(isinstance(part, list) for part in right.values()):
        known = all(
            name in right and any(_same(part, option) for option in right[name]) for name, part in value.items()
        )
        return known and all(name in value or "" in options for name, options in right.items())
    if isinstance(value, list | tuple) and isinstance(right, list | tuple):
        return len(value) == len(right) and all(map(_same, value, right))
    return False


def _equal(value: object, right: object) -> bool:
    if isinstance(value, Untyped) and not isinstance(right, str):
        try:
            value = jiter.from_json(value.encode(errors="replace"))
        except ValueError:
            value = {"True": True, "False": False, "None": None}.get(str(value), value)
    if isinstance(value, bool) or isinstance(right, bool):
        return value is right
    if isinstance(value, list | tuple) and isinstance(right, list | tuple):
        return len(value) == len(right) and all(map(_equal, value, right))
    if isinstance(value, dict) and isinstance(right, dict):
        return value.keys() == right.keys() and all(_equal(value[name], right[name]) for name in value)
    return value == right


def _unmatched(fits: list[list[bool]]) -> int | None:
    """Return a call that is left without a right one of its own by any matching; None where all have one."""
    taken: dict[int, int] = {}

    def place(call: int, seen: set[int]) -> bool:
        for one, fit in enumerate(fits[call]):
            if fit and one not in seen:
                seen.add(one)
                if one not in taken or place(taken[one], seen):
                    taken[one] = call
                    return True
        return False

    return next((call for call in range(len(fits)) if not place(call, set())), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
