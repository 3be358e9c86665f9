"""Align a policy to answers that are marked good or bad with KTO, held to the policy it starts from.

    python -m stages.train_kto NAME

reads   models/base, models/<start>, data/ready/<dataset>/{train,validation}.jsonl and images/
params  kto.<name>
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
from tunesmith.training.entries.kto import Kto
from tunesmith.training.objectives import kto
from tunesmith.training.run import closing_line, train
from tunesmith.training.spec import TrainingSpec, trained
from tunesmith.training.watch import Watch


def main(name: str) -> str:
    section = f"kto.{name}"
    entry = load(Kto, section, path=resolved("train_kto", name))
    train_file, held_out_file = (layout.split(entry.dataset, split) for split in ("train", "validation"))
    rows = ready_rows.read(train_file)
    held_out = ready_rows.read(held_out_file, may_be_empty=True)[: entry.eval_rows]
    for file, split in ((train_file, rows), (held_out_file, held_out)):
        row_kinds.check_rows("kto", split, file)
    profile = sharding.choose("kto", entry, layout.BASE, device.detect())
    device.set_seed(entry.seed)
    start = layout.MODELS / entry.start
    images = [layout.images(entry.dataset)]
    policy = loading.open_policy(
        start, layout.BASE, profile, entry.weights, entry.lora, vision=entry.vision, images=images
    )
    entry = entry.at_size(policy.hidden_size)
    marks = kto.encode(policy.tokenizer, rows, entry.max_length, section, train_file)
    kto.check_both(marks, train_file)
    fitted = fit.choose("kto", entry, policy, kto.batchable(marks))
    held_out_marks = kto.encode(policy.tokenizer, held_out, entry.max_length, section, held_out_file)
    good, bad = kto.weights(marks, entry)
    print(f"  {sum(mark.good for mark in marks)} of {len(marks)} answers are good; losses weigh {good:g}, bad {bad:g}")
    spec = TrainingSpec(
        out=layout.MODELS / name,
        objective="kto",
        entry=entry,
        start=start,
        rows=len(rows),
        datasets=trained(rows, [entry.epochs * mark.length for mark in marks]),
        inputs=[train_file, held_out_file],
        largest_step=fitted.largest_step,
        examples=entry.epochs * len(marks),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = kto.make_trainer(policy, marks, fitted.entry, fitted.profile, Path(scratch))
        start_preference, measure = kto.validation(policy, held_out_marks, entry)
        watch = Watch(
            probes=held_out[: entry.probes],
            rows_of=trainer.data_collator.rows_of,
            measure=measure,
            start=start_preference,
        )
        train(trainer, policy, spec, watch, fitted.profile, tokens_of={mark.id: mark.length for mark in marks})
    return closing_line(spec)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
