"""Merge an adapter into the weights it is on: a model of its own, evaluated and registered like any other.

    python -m stages.merge sft-lora

reads   models/base, models/<adapter>, the full weights that it is on
params  none; package.merged in dvc.yaml
writes  models/<adapter>-merged
"""

import sys
from pathlib import Path

from tunesmith.core import formatting
from tunesmith.core.console import run
from tunesmith.models import device
from tunesmith.training import merge

MODELS = Path("models")


def main(name: str) -> str:
    out = MODELS / f"{name}-merged"
    made = merge.merge(MODELS / name, MODELS / "base", out, device.detect())
    return f"{out}: {formatting.size(made.weights_bytes)} of full weights, digest {made.weights_digest[:12]}"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
