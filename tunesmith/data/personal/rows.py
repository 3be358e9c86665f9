"""Personal data in ready rows: found in their texts, and masked there, as in what reports show of raw rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from tunesmith.core.ready_rows import PARTS, Row
from tunesmith.data import text_scan
from tunesmith.data.dataset import Dataset
from tunesmith.data.personal.finder import Finder, Finding, mask
from tunesmith.data.records import Problem

CHECK = "personal data"
"""The check that sets rows with personal data aside."""
SEARCHED = ("prompt", "completion", "chosen", "rejected", "reference", "choices")
"""Fields of a row whose texts are searched."""
NAMES = ("role", "name", "id", "type", "tool_call_id", "image")
"""Fields of turns, parts and calls that are no text of people's, unless they are among a call's arguments."""


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

    searched = {name: _changed(row[name], masked_text, _unsearched(name)) for name in SEARCHED if name in row}  # type: ignore[literal-required]
    return cast("Row", {**row, **searched})


def _texts(row: Row) -> Iterator[str]:
    for name in SEARCHED:
        if name in row:
            yield from _leaves(row[name], _unsearched(name))  # type: ignore[literal-required]


def _unsearched(column: str) -> Sequence[str]:
    return NAMES if column in PARTS else ()


def _leaves(value: object, unsearched: Sequence[str]) -> Iterator[str]:
    """Yield the texts within a value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, unsearched)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in unsearched:
                yield from _leaves(item, () if name == "arguments" else unsearched)


def _changed(value: object, change: Callable[[str], str], unsearched: Sequence[str]) -> object:
    """A copy of a value whose texts, in the order of `_leaves`, are changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change, unsearched) for item in value]
    if isinstance(value, dict):
        return {
            name: item if name in unsearched else _changed(item, change, () if name == "arguments" else unsearched)
            for name, item in value.items()
        }
    return value


def shown(texts: Sequence[str], dataset: Dataset) -> list[str]:
    """Texts of raw rows as files that are shared may show them: without secrets and, where params keep personal data
    out of rows, without that."""
    hidden = [text_scan.mask_secrets(text) for text in texts]
    if dataset.personal_data not in ("mask", "set_aside"):
        return hidden
    found = Finder(dataset.phone_regions).find(hidden)
    return [mask(text, found.get(position, ())) for position, text in enumerate(hidden)]


def quarantine(problems: Sequence[Problem], dataset: Dataset) -> list[dict[str, object]]:
    """The lines of the quarantine file, {file, line, reason, raw}, which is shared."""
    texts = shown([problem.raw for problem in problems], dataset)
    return [
        {"file": str(problem.file), "line": problem.line, "reason": problem.reason, "raw": text}
        for problem, text in zip(problems, texts, strict=True)
    ]
