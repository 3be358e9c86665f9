"""Teach the base model to answer as the rows do: supervised fine-tuning.

    python -m stages.train_sft NAME

reads   models/base, data/ready/<dataset>/{train,validation}.jsonl and images/
params  sft.<name>
writes  models/<name>
"""

import sys
import tempfile
from pathlib import Path

from tunesmith.core import layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.data import row_kinds
from tunesmith.models import device, loading
from tunesmith.training import fit, sharding
from tunesmith.training.entries.sft import Sft
from tunesmith.training.objectives import sft
from tunesmith.training.run import closing_line, train
from tunesmith.training.spec import TrainingSpec, trained
from tunesmith.training.watch import Watch


def main(name: str) -> str:
    section = f"sft.{name}"
    entry = load(Sft, section, path=resolved("train_sft", name))
    train_file, held_out_file = (layout.split(entry.dataset, split) for split in ("train", "validation"))
    rows = ready_rows.read(train_file)
    row_kinds.check_rows("sft", rows, train_file)
    held_out = ready_rows.read(held_out_file, may_be_empty=True)[: entry.eval_rows]
    profile = sharding.choose("sft", entry, layout.BASE, device.detect())
    device.set_seed(entry.seed)
    images = [layout.images(entry.dataset)]
    policy = loading.open_policy(
        layout.BASE, layout.BASE, profile, entry.weights, entry.adapter, vision=entry.vision, images=images
    )
    entry = entry.at_size(policy.hidden_size)
    examples = sft.encode(policy.tokenizer, rows, entry, section, train_file)
    if len(examples) > len(rows):
        print(f"  {len(examples)} examples: the chat template renders a turn differently once the conversation goes on")
    sequences = sft.sequences(examples, entry, packing=sft.packs(policy, examples))
    fitted = fit.choose("sft", entry, policy, sft.batchable(examples, entry, sequences))
    measured = sft.encode(policy.tokenizer, held_out, entry, section, held_out_file).values()
    spec = TrainingSpec(
        out=layout.MODELS / name,
        objective="sft",
        entry=entry,
        start=layout.BASE,
        rows=len(rows),
        datasets=trained(rows, sft.tokens(rows, examples, entry)),
        inputs=[train_file, held_out_file],
        largest_step=fitted.largest_step,
        examples=entry.epochs * len(examples),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft.make_trainer(policy, examples, fitted.entry, fitted.profile, Path(scratch))
        watch = Watch(
            probes=held_out[: entry.probes],
            rows_of=trainer.data_collator.rows_of,
            measure=(lambda: sft.right_answers(policy, measured)) if measured else None,
        )
        tokens_of = {row: len(example.input_ids) for row, example in examples.items()}
        train(trainer, policy, spec, watch, fitted.profile, tokens_of=tokens_of)
    return closing_line(spec)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
