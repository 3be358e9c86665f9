"""`tunesmith check`: check params.yaml before anything runs.

DVC fills names from params.yaml into dvc.yaml before any stage runs, and reports a misspelt one in its own words; this
check names the param and the name that was probably meant.
"""

from pathlib import Path

from tunesmith.core import params
from tunesmith.project import checks, default_suites, document
from tunesmith.project.document import Document


def check(path: Path = params.PATH) -> Document:
    """Load and check all of params.yaml. Raises ParamsError for the first param with which no pipeline could run."""
    project = document.load(path)
    checks.check(project, path)
    return project


def summary(project: Document) -> str:
    """What a params.yaml in order has, with a note on what the default suites are, where it has some of them."""
    models = [*project.models, *project.reward]
    text = f"params.yaml: in order; data sets: {', '.join(project.data)}; models: {', '.join(models)}"
    asked = {suite.dataset for suite in project.evaluate.suites.values() if suite.kind != "lm_eval"}
    paths = {name: project.data[name].path for name in asked}
    names = [name for name in default_suites.NAMES if paths.get(name) == default_suites.path(name)]
    if not names:
        return text
    return (
        f"{text}\nnote: {', '.join(names)}: default suites, small and in English; they show what a training made "
        "worse, and are no public benchmark (docs/verifiers.md)"
    )
