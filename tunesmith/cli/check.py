"""`tunesmith check`: check params.yaml before anything runs.

DVC fills names from params.yaml into dvc.yaml before any stage runs, and reports a misspelt one in its own words; this
check names the param and the name that was probably meant.
"""

from pathlib import Path

from tunesmith.core import params
from tunesmith.project import checks, document
from tunesmith.project.document import Document


def check(path: Path = params.PATH) -> Document:
    """Load and check all of params.yaml. Raises ParamsError for the first param with which no pipeline could run."""
    project = document.load(path)
    checks.check(project, path)
    return project
