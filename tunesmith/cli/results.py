"""`tunesmith results`: the table at the end of a run, from reports/ alone."""

import json
import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.core import formatting, layout
from tunesmith.core.errors import EvaluationError
from tunesmith.evaluation.documents import Comparison, Difference, SuiteComparison
from tunesmith.registry.registration import Registration
from tunesmith.reports import sentences

REPORTS = Path("reports")
OWN_PROGRAM = Path(".venv/bin/tunesmith")
COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}
WIDTH = 120
"""Characters a line where the output is a file or a pipe."""


def show() -> None:
    """Print the comparison, the registered versions and the next commands. Raises EvaluationError if there is none."""
    try:
        comparison: Comparison = json.loads((REPORTS / "comparison.json").read_text())
    except FileNotFoundError:
        raise EvaluationError(f"no {REPORTS / 'comparison.json'} yet", fix="`dvc repro` makes it") from None
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table(comparison))
    if len(comparison["suites"]) > 1:
        console.print(other_suites(comparison))
    console.print(sentences.best(comparison), soft_wrap=True)
    for name, sweeps in comparison.get("sweeps", {}).items():
        console.print(Text(sentences.tried(name, sweeps)), soft_wrap=True)
    for decision in comparison["gate"].values():
        console.print(Text(f"gate: {decision['reason']}", style=COLOURS[decision["outcome"]]), soft_wrap=True)
    for name, model in comparison["models"].items():
        for text in model["warnings"]:
            console.print(Text(f"⚠ {name}: {text}", style="yellow"), soft_wrap=True)
    for name in comparison["against_baseline"]:
        console.print(registered(name, comparison["models"][name]["model_digest"]), soft_wrap=True)
    steps = {str(REPORTS / "comparison.html"): "read what changed, answer by answer"}
    # Without an activated environment, the command of one in the project is not on the user's path.
    inactive = not os.environ.get("VIRTUAL_ENV") and OWN_PROGRAM.exists()
    program = OWN_PROGRAM if inactive else "tunesmith"
    steps[f"{program} ui"] = "see the runs and the registered model in MLflow"
    passing = [name for name, decision in comparison["gate"].items() if decision["outcome"] == "pass"]
    if passing:
        promoted = max(passing, key=lambda name: comparison["models"][name]["score"])
        steps[f"{program} promote {promoted}"] = "make it the champion"
    width = max(map(len, steps))
    console.print("next:", style="bold")
    for step, what in steps.items():
        console.print(f"  {step:{width}}  {what}")


def registered(name: str, digest: str) -> str:
    """Whether the compared model, with this digest, is registered, as a sentence; a version may be an earlier model."""
    path = layout.REGISTERED / name / "registration.json"
    if not path.exists():
        return f"{name} is not registered yet"
    record: Registration = json.loads(path.read_text())
    version = f"{record['registered_model']} version {record['version']}"
    if record["model_digest"] != digest:
        return f"{name} is not registered yet: {version} is an earlier {name}"
    return f"registered: {version} ({name})"


def table(comparison: Comparison) -> Table:
    """The comparison, a row a model: score with its interval, differences, training time, memory, size."""
    title = f"{comparison['suite']}: {comparison['prompts']} held-out prompts"
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("model", no_wrap=True)
    started = ["against start"] if comparison["against_start"] else []
    share = sentences.ranking(comparison)["share"]
    right = f"{sentences.measured(sentences.ranking(comparison))}, {100 * comparison['confidence']:g}%"
    for column in (right, f"against {comparison['baseline']}", *started, "training", "memory", "size"):
        grid.add_column(column, justify="right", no_wrap=True)
    for name, model in comparison["models"].items():
        trained = name != comparison["baseline"]
        cost = model["cost"] if trained else dict.fromkeys(model["cost"])
        grid.add_row(
            Text(name, style="bold" if name == comparison["best"] else ""),
            f"{formatting.score(model['score'], share)} [{formatting.interval(model['low'], model['high'], share)}]",
            difference(comparison["against_baseline"].get(name), share),
            *([difference(comparison["against_start"].get(name), share)] if started else []),
            formatting.seconds(cost["seconds"]),
            formatting.size(cost["memory"]),
            formatting.size(cost["size"]),
        )
    return grid


def other_suites(comparison: Comparison) -> Table:
    """The scores on every suite but the first, a row a model, each marked where it is better or worse than before."""
    suites = {name: suite for name, suite in comparison["suites"].items() if name != comparison["suite"]}
    title = f"other suites (▲ better, ▼ worse than its start, or {comparison['baseline']})"
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("model", no_wrap=True)
    for name in suites:
        grid.add_column(name, justify="right")
    for name in comparison["models"]:
        grid.add_row(
            Text(name, style="bold" if name == comparison["best"] else ""),
            *(_cell(name, suite) for suite in suites.values()),
        )
    return grid


def _cell(name: str, suite: SuiteComparison) -> Text:
    """A model's score, marked by its difference from its start, or else from the base."""
    before = suite["against_start"].get(name) or suite["against_baseline"].get(name)
    mark = {"better": "▲", "worse": "▼"}.get(before["verdict"], " ") if before else " "
    score = formatting.score(suite["models"][name]["score"], suite["share"])
    return Text(f"{score} {mark}", style={"▲": "green", "▼": "red"}.get(mark, ""))


def difference(result: Difference | None, share: bool) -> Text:
    """A paired difference, of shares in points, with its verdict."""
    if result is None:
        return Text(formatting.NONE)
    colours = {"better": "green", "worse": "red", "undecided": "dim"}
    return Text(
        f"{result['verdict']} {formatting.change(result['difference'], share)}", style=colours[result["verdict"]]
    )
