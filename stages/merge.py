"""Merge an adapter into the weights it is on: a model of its own, evaluated and registered like any other.

    python -m stages.merge NAME

reads   models/base, models/<adapter>, the full weights that it is on
params  package.merged.<name>
writes  models/<name>
"""

import sys

from tunesmith.core import formatting, layout
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.models import device
from tunesmith.training import merge


def main(name: str) -> str:
    adapter = load(str, f"package.merged.{name}.adapter", path=resolved("merge", name))
    out = layout.MODELS / name
    manifest = merge.merge(layout.MODELS / adapter, layout.BASE, out, device.detect())
    return f"{out}: {formatting.size(manifest.weights_bytes)} of full weights, digest {manifest.weights_digest[:12]}"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
