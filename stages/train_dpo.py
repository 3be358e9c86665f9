"""Align a policy to preference pairs with DPO, held to the policy it starts from.

reads   models/base, models/<dpo.start>, data/ready/<dpo.dataset>/{train,test}.jsonl, data/reference/dpo.jsonl
params  dpo, lora
writes  models/dpo
"""

import tempfile
from pathlib import Path

from tunesmith.core import ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, preference_pairs, weights
from tunesmith.planning import workload
from tunesmith.training import dpo
from tunesmith.training.run import Watch, closing_line, train
from tunesmith.training.spec import Task

MODELS, READY, REFERENCE = Path("models"), Path("data/ready"), Path("data/reference/dpo.jsonl")
BASE, OUT = MODELS / "base", MODELS / "dpo"


def main() -> str:
    p, lora = load(dpo.Dpo, "dpo"), load(weights.Lora, "lora")
    train_file, held_out_file = (READY / p.dataset / f"{split}.jsonl" for split in ("train", "test"))
    rows, held_out = ready_rows.read(train_file), ready_rows.read(held_out_file)
    row_kinds.check_rows("dpo", rows, train_file)
    profile = device.detect()
    device.set_seed(p.seed)
    policy = loading.open_policy(MODELS / p.start, BASE, profile, p.weights, lora)
    given = preference_pairs.encode(policy.tokenizer, rows, p.max_length, "dpo", train_file)
    unseen = preference_pairs.encode(policy.tokenizer, held_out, p.max_length, "dpo", held_out_file)
    reference = dpo.Reference(ready_rows.read(REFERENCE), REFERENCE)
    task = Task(
        out=OUT,
        objective="dpo",
        title="DPO",
        kind=p.weights,
        start=MODELS / p.start,
        dataset=p.dataset,
        rows=len(rows),
        inputs=[train_file, held_out_file, REFERENCE],
        params={"dpo": p.model_dump(), "lora": lora.model_dump()},
        seed=p.seed,
        footprint=workload.of_pairs("dpo", p, p.weights, lora, profile, given),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = dpo.make_trainer(policy, given, reference, p, profile, Path(scratch))
        preferred, prefers = dpo.held_out(policy, unseen, reference, p)
        watch = Watch(
            probes=[row["prompt"] for row in held_out[: p.probes]],
            rows_of=trainer.data_collator.rows_of,
            prefers=prefers,
            preferred=preferred,
        )
        train(trainer, policy, task, watch, profile, tokens=p.epochs * sum(pair.tokens for pair in given))
    return closing_line(task)


if __name__ == "__main__":
    run(main)
