"""Compute log-probabilities of every pair under DPO's reference policy, once: no training then holds it in memory.

    python -m stages.reference NAME

reads   models/base, models/<start>, data/ready/<dataset>/{train,validation}.jsonl and images/
params  dpo.<name>.{start,dataset,weights,lora,max_length,batch_size}
writes  data/reference/<name>.jsonl
"""

import sys
from dataclasses import replace

from tunesmith.core import layout, processes, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, preference_pairs
from tunesmith.training.entries.dpo import Dpo


def main(name: str) -> str:
    section = f"dpo.{name}"
    entry = load(Dpo, section, path=resolved("reference", name))
    start = layout.MODELS / entry.start
    # Opened as the training does, since quantization to NF4 changes probabilities. A fresh adapter changes none, though
    # initial values taken out of the weights round them.
    lora = entry.lora.model_copy(update={"init": "default"})
    profile = replace(device.detect(), sharded=processes.count() > 1 and processes.sharding() == "full")
    images = [layout.images(entry.dataset)]
    policy = loading.open_policy(start, layout.BASE, profile, entry.weights, lora, images=images)
    pairs = []
    for split in ("train", "validation"):
        path = layout.split(entry.dataset, split)
        rows = ready_rows.read(path, may_be_empty=split == "validation")
        row_kinds.check_rows("dpo", rows, path)
        pairs += preference_pairs.encode(policy.tokenizer, rows, entry.max_length, section, path)
    values = preference_pairs.log_probs(policy, pairs, entry.batch_size)
    out = layout.REFERENCE / f"{name}.jsonl"
    if not processes.is_first():
        return ""
    ready_rows.write_jsonl(
        out,
        [
            {"id": pair.id, "chosen": chosen, "rejected": rejected}
            for pair, (chosen, rejected) in zip(pairs, values, strict=True)
        ],
    )
    return f"{out}: log-probabilities of {len(pairs)} pairs under {start}"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
