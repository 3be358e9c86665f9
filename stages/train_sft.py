"""Teach the base model to answer as the rows do: supervised fine-tuning.

    python -m stages.train_sft lora

reads   models/base, data/ready/<sft.dataset>/{train,validation}.jsonl
params  sft, lora
writes  models/sft-<weights>
"""

import sys
import tempfile
from pathlib import Path

from tunesmith.core import ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, weights
from tunesmith.planning import workload
from tunesmith.training import sft
from tunesmith.training.run import Watch, closing_line, train
from tunesmith.training.spec import Task

BASE, READY, OUT = Path("models/base"), Path("data/ready"), Path("models")


def main(kind: weights.Kind) -> str:
    p, lora = load(sft.Sft, "sft"), None if kind == "full" else load(weights.Lora, "lora")
    train_file, held_out_file = (READY / p.dataset / f"{split}.jsonl" for split in ("train", "validation"))
    rows = ready_rows.read(train_file)
    row_kinds.check_rows("sft", rows, train_file)
    held_out = ready_rows.read(held_out_file)[: p.probes] if p.probes else []
    profile = device.detect()
    device.set_seed(p.seed)
    policy = loading.open_policy(BASE, BASE, profile, kind, lora)
    examples = sft.encode(policy.tokenizer, rows, p, train_file)
    probes = sft.encode(policy.tokenizer, held_out, p, held_out_file).values()
    task = Task(
        out=OUT / f"sft-{kind}",
        objective="sft",
        title="SFT",
        kind=kind,
        start=BASE,
        dataset=p.dataset,
        rows=len(rows),
        inputs=[train_file, held_out_file],
        params={"sft": p.model_dump(), **({"lora": lora.model_dump()} if lora else {})},
        seed=p.seed,
        footprint=workload.of_sft(p, kind, lora, profile, examples),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft.make_trainer(policy, examples, p, kind, profile, Path(scratch))
        watch = Watch(
            probes=[row["prompt"] for row in held_out],
            rows_of=trainer.data_collator.rows_of,
            stops=lambda: sft.ends_turn(policy, probes),
        )
        tokens = p.epochs * sum(len(example.input_ids) for example in examples.values())
        train(trainer, policy, task, watch, profile, tokens=tokens)
    return closing_line(task)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
