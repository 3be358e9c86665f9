"""Charts of a page: Vega-Lite documents (specs/, a file a chart) that the page draws itself.

It draws them with the copy of Vega inside the package (`vendored`). A page imports two macros from
figures.html.j2: `figure`, for each chart, and `runtime`, once at its end. A spec may have anchors, strings such as
``"<SCORE>"`` that stand for a JSON value, and has DVC's anchor for the rows. Its params that are named like colours of
the page (head.html.j2: ink, soft, mark, ...) get those.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from markupsafe import Markup

from tunesmith.core import formatting
from tunesmith.reports import templating

FOLDER = Path(__file__).parent
DATA = "<DVC_METRIC_DATA>"
"""The anchor for the rows of a chart, which every spec has once, as `dvc plots` wants."""

Value: TypeAlias = str | float | bool | None
Row: TypeAlias = Mapping[str, Value]
Column: TypeAlias = tuple[str, Callable[..., str]]
"""The heading of a column, and the function that writes its values for people."""


@dataclass(frozen=True)
class Chart:
    """A chart with the table of its values, for those who cannot see it or hover over it."""

    title: str
    """The chart in a phrase; a screen reader reads it in place of the drawing."""
    spec: Mapping[str, object]
    """The Vega-Lite document with its rows."""
    headings: Sequence[str]
    table: Sequence[Sequence[str]]
    """The values as text, a row of the table each."""

    @property
    def document(self) -> Markup:
        """The spec as JSON for a script element."""
        return templating.for_script(self.spec)


def chart(
    spec: str,
    rows: Sequence[Row],
    *,
    title: str,
    columns: Mapping[str, Column],
    anchors: Mapping[str, object] | None = None,
    tabled: Sequence[Row] | None = None,
) -> Chart:
    """A chart of ``rows`` by the spec of that file name.

    columns: the fields that the table shows, in order. anchors: the value of each anchor of the spec but its rows.
    tabled: the rows that the table shows, where it does not show all.
    Raises KeyError for an anchor without a value.
    """
    values = {DATA: [dict(row) for row in rows], **(anchors or {})}
    shown = rows if tabled is None else tabled
    table = [[_text(row.get(name), write) for name, (_, write) in columns.items()] for row in shown]
    filled = fill(read_spec(spec), values)
    assert isinstance(filled, dict)
    return Chart(title, filled, [heading for heading, _ in columns.values()], table)


def read_spec(name: str) -> dict[str, object]:
    """The Vega-Lite document of that file name, with its anchors."""
    spec: dict[str, object] = json.loads((FOLDER / "specs" / name).read_text())
    return spec


def fill(part: object, values: Mapping[str, object]) -> object:
    """A part of a spec with values in place of its anchors; what has None as its value is left out."""
    match part:
        case dict():
            filled = {name: fill(inner, values) for name, inner in part.items()}
            return {name: value for name, value in filled.items() if value is not None or part[name] is None}
        case list():
            return [fill(inner, values) for inner in part]
        case str() if part.startswith("<") and part.endswith(">"):
            return values[part]
    return part


def _text(value: Value, write: Callable[..., str]) -> str:
    return formatting.NONE if value is None else write(value)
