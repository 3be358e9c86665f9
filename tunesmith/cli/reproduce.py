"""`tunesmith reproduce`: train a version of this project's registry again and compare the models."""

import json
from pathlib import Path

from tunesmith.core import params
from tunesmith.registry import ledger, versions
from tunesmith.registry.provenance import rebuild, sameness
from tunesmith.registry.provenance.rebuild import Original
from tunesmith.registry.provenance.sameness import Scores
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings
from tunesmith.registry.tracker import Names, download_folder
from tunesmith.registry.versions import VersionFiles


def run(which: str, into: Path | None, *, keep: bool, anyway: bool) -> bool:
    """Print the comparison; return whether it is the same model. Raises as `versions.fetch` and `rebuild` do."""
    names, signing = params.load(Names, "registry"), params.load(Settings, "signing").root
    registry = Registry()
    chain = ledger.read(registry, names.model, signing).verified(names.model)
    version = versions.choose(registry, names.model, which, signing, chain)
    with download_folder() as scratch:
        fetched = versions.fetch(registry, names.model, version, Path(scratch), signing, chain)
        original = Original(fetched.claims["model"], fetched.folder, scores(fetched))
        outcome = rebuild.reproduce(original, Path.cwd(), into=into, keep=keep, anyway=anyway)
    for line in rebuild.report(outcome):
        print(line)
    return outcome.reproduced


def scores(fetched: VersionFiles) -> dict[str, Scores] | None:
    """The scores of a version's evaluation that were signed with it, by suite; None where there are none."""
    path = fetched.evidence / sameness.SCORES
    return json.loads(path.read_text()) if path.exists() else None
