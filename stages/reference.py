"""Compute once what the reference policy of DPO gives every pair: a training then never has it in memory.

reads   models/base, models/<dpo.start>, data/ready/<dpo.dataset>/{train,test}.jsonl
params  dpo.{start,weights,dataset,max_length,batch_size}, lora
writes  data/reference/dpo.jsonl
"""

from pathlib import Path

from tunesmith.core import ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, preference_pairs, weights

MODELS, READY, OUT = Path("models"), Path("data/ready"), Path("data/reference/dpo.jsonl")
BASE = MODELS / "base"


def main() -> str:
    start, data = load(str, "dpo.start"), READY / load(str, "dpo.dataset")
    kind, max_length = load(weights.Kind, "dpo.weights"), load(int, "dpo.max_length")
    # As the training opens it: on NF4 a policy gives other probabilities.
    policy = loading.open_policy(MODELS / start, BASE, device.detect(), kind, load(weights.Lora, "lora"))
    given = []
    for path in (data / "train.jsonl", data / "test.jsonl"):
        rows = ready_rows.read(path)
        row_kinds.check_rows("dpo", rows, path)
        given += preference_pairs.encode(policy.tokenizer, rows, max_length, "dpo", path)
    values = preference_pairs.log_probs(policy, given, load(int, "dpo.batch_size"))
    found = [
        {"id": pair.id, "chosen": chosen, "rejected": rejected}
        for pair, (chosen, rejected) in zip(given, values, strict=True)
    ]
    ready_rows.write_jsonl(OUT, found)
    return f"{OUT}: log-probabilities of {len(found)} pairs under models/{start}"


if __name__ == "__main__":
    run(main)
