"""`tunesmith check`: params.yaml looked over before anything runs.

DVC fills names from params.yaml into dvc.yaml before a stage can speak, and a misspelt one ends in DVC's own words;
this says what was probably meant.
"""

from pathlib import Path

from tunesmith.core import params
from tunesmith.project import checks, document
from tunesmith.project.document import Document


def check(path: Path = params.PATH) -> Document:
    """All of params.yaml. Raises ParamsError for the first thing that would stop the pipeline from starting."""
    project = document.load(path)
    checks.check(project, path)
    return project
