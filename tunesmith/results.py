"""The table at the end of a run, from reports/ alone."""

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tunesmith import words
from tunesmith.errors import EvaluationError

REPORTS = Path("reports")


def show() -> None:
    """Print the comparison, what is registered, and what to do next. Raises EvaluationError where there is none yet."""
    try:
        comparison = json.loads((REPORTS / "comparison.json").read_text())
    except FileNotFoundError:
        raise EvaluationError(f"no {REPORTS / 'comparison.json'} yet", fix="run `make repro` first") from None
    console = Console(highlight=False)
    console.print(table(comparison))
    for name in comparison["against_baseline"]:
        console.print(words.headline(name, comparison), soft_wrap=True)
        console.print(registered(name, comparison["models"][name]["model_digest"]), soft_wrap=True)
    console.print("next:", style="bold")
    console.print(f"  {REPORTS / 'comparison.html'}     read what changed, answer by answer")
    console.print("  make ui                     see the runs and the registered model in MLflow")
    for name, result in comparison["against_baseline"].items():
        if result["verdict"] == "better":
            # An activated environment says so; without one, the command is not on the user's path.
            program = "tunesmith" if os.environ.get("VIRTUAL_ENV") else ".venv/bin/tunesmith"
            console.print(f"  {program} promote {name}  make it the champion")


def registered(name: str, digest: str) -> str:
    """Whether the model that was compared, by its digest, is registered. What is registered may be an earlier one."""
    path = REPORTS / name / "registration.json"
    if not path.exists():
        return f"{name} is not registered yet"
    made = json.loads(path.read_text())
    version = f"{made['registered_model']} version {made['version']}"
    if made["model_digest"] != digest:
        return f"{name} is not registered yet: {version} is an earlier {name}"
    return f"registered: {version} ({name})"


def table(comparison: dict[str, Any]) -> Table:
    """A row a model: score with its interval, time, memory, parameters."""
    title = f"{comparison['dataset']}: {comparison['prompts']} held-out prompts"
    grid = Table(title=title, title_justify="left")
    grid.add_column("model")
    for column in (f"right, {100 * comparison['confidence']:g}%", "in format", "training", "memory", "trainable"):
        grid.add_column(column, justify="right", no_wrap=True)
    for name, model in comparison["models"].items():
        training = model["training"]
        trainable = training["trainable_parameters"]
        grid.add_row(
            name,
            f"{words.percent(model['score'])} [{100 * model['low']:.1f}, {100 * model['high']:.1f}]",
            words.percent(model["well_formed"]),
            words.seconds(training["seconds"]),
            words.size(training["peak_memory_bytes"]),
            f"{trainable:,}" if trainable else "–",
        )
    return grid
