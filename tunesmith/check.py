"""Look over params.yaml before anything runs.

DVC fills names from params.yaml into dvc.yaml before a stage can speak; a misspelt one ends in DVC's own words. What
it fills in is checked here, with what was probably meant. All else is checked by the stage that reads it.
"""

from pathlib import Path

from tunesmith import labels, params
from tunesmith.dataset import Dataset, check_name
from tunesmith.errors import ParamsError

GENERATED = Path("data/raw/demo.jsonl")
"""Written by generate_demo, so it need not be there yet."""
READERS = ("sft.dataset", "evaluate.dataset")


def check(path: Path = params.PATH) -> list[str]:
    """The names of the data sets. Raises ParamsError for the first thing that would stop the pipeline from starting."""
    for section in params.SECTIONS:
        params.load(dict, section, path=path)
    names = list(params.load(dict, "data", path=path))
    datasets: dict[str, Dataset] = {}
    for name in names:
        check_name(str(name))
        dataset = datasets[name] = params.load(Dataset, f"data.{name}", path=path)
        if not dataset.path.is_file() and dataset.path != GENERATED:
            raise ParamsError(
                f"{path}: data.{name}.path: no file {dataset.path}", fix="put the file there, or correct the path"
            )
        if not dataset.held_out.path.exists():
            raise ParamsError(
                f"{path}: data.{name}.held_out.path: no file or folder {dataset.held_out.path}",
                fix="correct the path; data/held_out, an empty folder, is what the project came with",
            )
    for reader in READERS:
        wanted = params.load(str, reader, path=path)
        if wanted not in names:
            raise ParamsError(
                f"{path}: {reader}: no data set {wanted!r}{params.meant(wanted, names)}",
                fix=f"name one of {', '.join(names)}, or add data.{wanted}",
            )
    trained = params.load(str, "sft.dataset", path=path)
    dataset = datasets[trained]
    labels.check_trains("sft", dataset.kind, dataset.verifier, f"{path}: sft.dataset: data.{trained}")
    return names
