"""`tunesmith reproduce`: a version of this project's registry, made again."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith import likeness, params, reproduction, versions
from tunesmith.likeness import Scores
from tunesmith.registry import Registry
from tunesmith.reproduction import Original
from tunesmith.signing import Settings
from tunesmith.tracker import Names
from tunesmith.versions import Fetched


def run(which: str, into: Path | None, *, keep: bool, anyway: bool) -> bool:
    """Print what came out; whether it is the same model. Raises as `versions.fetch` and `reproduction.reproduce` do."""
    names, signing = params.load(Names, "registry"), params.load(Settings, "signing").root
    registry = Registry(names.experiment)
    version = versions.choose(registry, names.model, which, signing)
    with TemporaryDirectory() as scratch:
        fetched = versions.fetch(registry, names.model, version, Path(scratch), signing)
        original = Original(fetched.statement["model"], fetched.folder, scores(fetched))
        outcome = reproduction.reproduce(original, Path.cwd(), into=into, keep=keep, anyway=anyway)
    for line in reproduction.told(outcome):
        print(line)
    return outcome.reproduced


def scores(fetched: Fetched) -> dict[str, Scores] | None:
    """Of a version's evaluation, as they were signed; None where they were not."""
    path = fetched.evidence / likeness.SCORES
    return json.loads(path.read_text()) if path.exists() else None
