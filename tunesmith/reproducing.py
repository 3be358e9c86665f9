"""`tunesmith reproduce`: a version of this project's registry, made again."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith import likeness, params, reproduction, versions
from tunesmith.likeness import Scores
from tunesmith.publishing import Names
from tunesmith.registry import Registry, Version
from tunesmith.reproduction import Original
from tunesmith.signing import Settings


def run(which: str, into: Path | None, *, keep: bool, anyway: bool) -> bool:
    """Print what came out; whether it is the same model. Raises as `versions.fetch` and `reproduction.reproduce` do."""
    names, signing = params.load(Names, "registry"), params.load(Settings, "signing").root
    registry = Registry(names.experiment)
    version = versions.choose(registry, names.model, which, signing)
    with TemporaryDirectory() as scratch:
        fetched = versions.fetch(registry, names.model, version, Path(scratch), signing)
        original = Original(
            fetched.statement["model"], fetched.folder, lambda: scores(registry, version, Path(scratch) / "samples")
        )
        outcome = reproduction.reproduce(original, Path.cwd(), into=into, keep=keep, anyway=anyway)
    for line in reproduction.told(outcome):
        print(line)
    return outcome.reproduced


def scores(registry: Registry, version: Version, scratch: Path) -> dict[str, Scores]:
    """Of a version's answers, as its run shows them."""
    scratch.mkdir(exist_ok=True)
    table = json.loads(registry.download(version.run, "samples.json", scratch).read_text())
    return likeness.scores([dict(zip(table["columns"], row, strict=True)) for row in table["data"]])
