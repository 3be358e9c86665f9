"""The files of sweeps: studies in build/sweeps, which git ignores, and reports in reports/sweeps."""

import json
import re
from pathlib import Path

from tunesmith.core import files, layout, ready_rows
from tunesmith.core.errors import EvaluationError
from tunesmith.reports import sweep_page
from tunesmith.reports.sweep_page import SweepReport
from tunesmith.sweeps.plan import Plan

STUDIES = Path("build/sweeps")
REPORTS = layout.REPORTS / "sweeps"
SETTINGS, STUDY = "settings.json", "study.log"
"""What defines a sweep, and Optuna's record of it."""


def folder(name: str) -> Path:
    """The folder of a sweep, with its study and the output of its trials."""
    return STUDIES / name


def study(name: str) -> Path:
    return folder(name) / STUDY


def name(plan: Plan, seed: int) -> str:
    """The name of a sweep: that of the last over the training, to go on with, if it had the same plan; else another."""
    settings = {
        "space": [repr(dimension) for dimension in plan.space],
        "by": plan.by,
        "seed": seed,
        "commit": plan.commit,
        "present": plan.present,
        "params": plan.params,
    }
    text = json.dumps(settings, sort_keys=True, indent=2) + "\n"
    numbers = _numbers(STUDIES, plan.entry, "") + _numbers(REPORTS, plan.entry, r"\.json")
    last = max(numbers, default=0)
    path = folder(f"{plan.entry}-s{last}") / SETTINGS
    if path.exists() and path.read_text() == text:
        return path.parent.name
    path = folder(f"{plan.entry}-s{last + 1}") / SETTINGS
    files.write_text(path, text)
    return path.parent.name


def write(report: SweepReport) -> Path:
    """Write a report, and return the path of its page."""
    ready_rows.write_json(REPORTS / f"{report['name']}.json", report)
    page = REPORTS / f"{report['name']}.html"
    files.write_text(page, sweep_page.page(report))
    return page


def reports(entry: str) -> list[SweepReport]:
    """The reports of all sweeps over a training, the last at the end. Raises EvaluationError where there is none."""
    numbers = sorted(_numbers(REPORTS, entry, r"\.json"))
    if not numbers:
        raise EvaluationError(
            f"{REPORTS}: no sweep over {entry} yet", fix=f"run one: `tunesmith sweep {entry} --over NAME=A,B`"
        )
    return [json.loads((REPORTS / f"{entry}-s{number}.json").read_text()) for number in numbers]


def _numbers(place: Path, entry: str, end: str) -> list[int]:
    """The numbers of the sweeps over a training that have a file or folder at ``place``."""
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    pattern = re.compile(rf"{re.escape(entry)}-s(\d+){end}")
    return [int(match[1]) for match in map(pattern.fullmatch, names) if match]
