"""Look over params.yaml before anything runs.

DVC fills names from params.yaml into dvc.yaml before a stage can speak; a misspelt one ends in DVC's own words. What
it fills in is checked here, with what was probably meant. All else is checked by the stage that reads it.
"""

import re
from pathlib import Path

from tunesmith import params
from tunesmith.errors import ParamsError
from tunesmith.preparation import Dataset

GENERATED = Path("data/raw/demo.jsonl")
"""Written by generate_demo, so it need not be there yet."""
READERS = ("sft.dataset", "evaluate.dataset")


def check(path: Path = params.PATH) -> list[str]:
    """The names of the data sets. Raises ParamsError for the first thing that would stop the pipeline from starting."""
    for section in params.SECTIONS:
        params.load(dict, section, path=path)
    names = list(params.load(dict, "data", path=path))
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", str(name)):
            raise ParamsError(
                f"{path}: data.{name}: not a name that a stage can have",
                fix="begin with a letter, go on with letters, digits, - and _",
            )
        dataset = params.load(Dataset, f"data.{name}", path=path)
        if not dataset.path.is_file() and dataset.path != GENERATED:
            raise ParamsError(
                f"{path}: data.{name}.path: no file {dataset.path}", fix="put the file there, or correct the path"
            )
    for reader in READERS:
        wanted = params.load(str, reader, path=path)
        if wanted not in names:
            raise ParamsError(
                f"{path}: {reader}: no data set {wanted!r}{params.meant(wanted, names)}",
                fix=f"name one of {', '.join(names)}, or add data.{wanted}",
            )
    return names
