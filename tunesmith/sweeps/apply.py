"""Put the params that a sweep chose into params.yaml, with the record of how many were tried."""

from collections.abc import Sequence
from pathlib import Path

from tunesmith.core import files, params, params_text
from tunesmith.core.errors import EvaluationError
from tunesmith.evaluation.candidates import Swept
from tunesmith.reports.sweep_page import SweepReport


def winner(reports: Sequence[SweepReport], path: Path = params.PATH) -> dict[str, object]:
    """Write the values that the last of ``reports`` chose, and `sweeps.<entry>`, to params.yaml; return the values.

    reports: of all sweeps over the training. Nothing else of the file changes, comments included.
    Raises EvaluationError where no trial was chosen.
    """
    last = reports[-1]
    chosen = next((trial for trial in last["trials"] if trial["name"] == last["chosen"]), None)
    if chosen is None:
        raise EvaluationError(f"{last['name']}: {last['why']}", fix="run it again with other values")
    entry = last["training"].partition(".")[2]
    swept = _recorded(path, entry)
    tried = dict(swept.tried) | {report["name"]: len(report["trials"]) for report in reports}
    applied = [*(name for name in swept.applied if name != chosen["name"]), chosen["name"]]
    record = {"by": last["by"], "tried": tried, "applied": applied}
    placed = {f"{last['training']}.{param}": value for param, value in chosen["values"].items()}
    files.write_text(path, params_text.with_values(params_text.read(path), placed | {f"sweeps.{entry}": record}, path))
    return placed


def _recorded(path: Path, entry: str) -> Swept:
    sweeps = params.load(dict[str, Swept], "sweeps", path=path)
    return sweeps.get(entry, Swept(by="loss"))
