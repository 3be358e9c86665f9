"""Align a policy to preference pairs with DPO, held to the policy it starts from.

    python -m stages.train_dpo NAME

reads   models/base, models/<start>, data/ready/<dataset>/{train,validation}.jsonl and images/,
        data/reference/<name>.jsonl
params  dpo.<name>
writes  models/<name>
"""

import sys
import tempfile
from pathlib import Path

from tunesmith.core import layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, preference_pairs
from tunesmith.training import fit, sharding
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.objectives import dpo, pair_batches
from tunesmith.training.run import closing_line, train
from tunesmith.training.spec import TrainingSpec, trained
from tunesmith.training.watch import Watch


def main(name: str) -> str:
    section = f"dpo.{name}"
    entry = load(Dpo, section, path=resolved("train_dpo", name))
    train_file, held_out_file = (layout.split(entry.dataset, split) for split in ("train", "validation"))
    reference_file = layout.REFERENCE / f"{name}.jsonl"
    rows = ready_rows.read(train_file)
    held_out = ready_rows.read(held_out_file, may_be_empty=True)[: entry.eval_rows]
    row_kinds.check_rows("dpo", rows, train_file)
    profile = sharding.choose("dpo", entry, layout.BASE, device.detect())
    device.set_seed(entry.seed)
    start = layout.MODELS / entry.start
    images = [layout.images(entry.dataset)]
    policy = loading.open_policy(
        start, layout.BASE, profile, entry.weights, entry.lora, vision=entry.vision, images=images
    )
    entry = entry.at_size(policy.hidden_size)
    pairs = preference_pairs.encode(policy.tokenizer, rows, entry.max_length, section, train_file)
    fitted = fit.choose("dpo", entry, policy, pair_batches.batchable(pairs))
    held_out_pairs = preference_pairs.encode(policy.tokenizer, held_out, entry.max_length, section, held_out_file)
    reference = dpo.Reference(ready_rows.read_reference(reference_file), reference_file)
    spec = TrainingSpec(
        out=layout.MODELS / name,
        objective="dpo",
        entry=entry,
        start=start,
        rows=len(rows),
        datasets=trained(rows, [entry.epochs * pair.tokens for pair in pairs]),
        inputs=[train_file, held_out_file, reference_file],
        largest_step=fitted.largest_step,
        examples=entry.epochs * len(pairs),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = dpo.make_trainer(policy, pairs, reference, fitted.entry, fitted.profile, Path(scratch))
        start_preference, measure = dpo.validation(policy, held_out_pairs, reference, entry)
        watch = Watch(
            probes=held_out[: entry.probes],
            rows_of=trainer.data_collator.rows_of,
            measure=measure,
            start=start_preference,
            epochs=entry.epochs,
        )
        train(trainer, policy, spec, watch, fitted.profile, tokens_of={pair.id: pair.tokens for pair in pairs})
    return closing_line(spec)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
