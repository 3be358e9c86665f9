"""Personal data in ready rows: found in their texts, and masked there."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from tunesmith.core.ready_rows import Row
from tunesmith.data.personal.finder import Finder, Finding, mask

SEARCHED = ("prompt", "completion", "chosen", "rejected", "reference")
"""Fields of a row whose texts are searched."""
NAMES = ("role", "name", "id", "type", "tool_call_id")
"""Fields of turns and calls that are no text of people's."""


def find(finder: Finder, rows: Sequence[Row]) -> dict[int, dict[int, list[Finding]]]:
    """Map the position of each row with findings to those in each of its texts, numbered as `masked` goes over them."""
    places, texts = [], []
    for position, row in enumerate(rows):
        for number, text in enumerate(_texts(row)):
            places.append((position, number))
            texts.append(text)
    found: dict[int, dict[int, list[Finding]]] = {}
    for place, findings in finder.find(texts).items():
        position, number = places[place]
        found.setdefault(position, {})[number] = findings
    return found


def kinds(findings: dict[int, list[Finding]]) -> list[str]:
    """The kinds of personal data in a row, each once, in the order of their places."""
    return list(dict.fromkeys(finding.kind for number in sorted(findings) for finding in findings[number]))


def masked(row: Row, findings: dict[int, list[Finding]]) -> Row:
    """The row with a placeholder in place of each finding."""
    numbers = iter(range(len(list(_texts(row)))))

    def masked_text(text: str) -> str:
        return mask(text, findings.get(next(numbers), ()))

    searched = {name: _changed(row[name], masked_text) for name in SEARCHED if name in row}  # type: ignore[literal-required]
    return cast("Row", {**row, **searched})


def _texts(row: Row) -> Iterator[str]:
    for name in SEARCHED:
        if name in row:
            yield from _leaves(row[name])  # type: ignore[literal-required]


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts within a value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in NAMES:
                yield from _leaves(item)


def _changed(value: object, change: Callable[[str], str]) -> object:
    """A copy of a value whose texts, in the order of `_leaves`, are changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return {name: item if name in NAMES else _changed(item, change) for name, item in value.items()}
    return value
