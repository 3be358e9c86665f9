"""Train a reward model on preference pairs: the first half of RLHF.

    python -m stages.train_reward NAME

reads   models/base, models/<start>, data/ready/<dataset>/{train,validation}.jsonl
params  reward.<name>
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
from tunesmith.training.entries.reward import Reward
from tunesmith.training.objectives import pair_batches, reward
from tunesmith.training.run import closing_line, train
from tunesmith.training.spec import TrainingSpec, trained
from tunesmith.training.watch import Watch


def main(name: str) -> str:
    section = f"reward.{name}"
    entry = load(Reward, section, path=resolved("train_reward", name))
    train_file, held_out_file = (layout.split(entry.dataset, split) for split in ("train", "validation"))
    rows = ready_rows.read(train_file)
    held_out = ready_rows.read(held_out_file, may_be_empty=True)[: entry.eval_rows]
    row_kinds.check_rows("reward", rows, train_file)
    profile = sharding.choose("reward", entry, layout.BASE, device.detect())
    device.set_seed(entry.seed)
    start = layout.MODELS / entry.start
    scorer = loading.new_reward_model(start, layout.BASE, profile, entry.weights, entry.lora)
    entry = entry.at_size(scorer.hidden_size)
    pairs = preference_pairs.encode(scorer.tokenizer, rows, entry.max_length, section, train_file)
    fitted = fit.choose("reward", entry, scorer, pair_batches.batchable(pairs))
    held_out_pairs = preference_pairs.encode(scorer.tokenizer, held_out, entry.max_length, section, held_out_file)
    spec = TrainingSpec(
        out=layout.MODELS / name,
        objective="reward",
        entry=entry,
        start=start,
        rows=len(rows),
        datasets=trained(rows, [entry.epochs * pair.tokens for pair in pairs]),
        inputs=[train_file, held_out_file],
        largest_step=fitted.largest_step,
        examples=entry.epochs * len(pairs),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = reward.make_trainer(scorer, pairs, fitted.entry, fitted.profile, Path(scratch))
        watch = Watch(
            rows_of=trainer.data_collator.rows_of,
            measure=reward.validation(scorer, held_out_pairs, entry.batch_size),
            epochs=entry.epochs,
        )
        train(trainer, scorer, spec, watch, fitted.profile, tokens_of={pair.id: pair.tokens for pair in pairs})
    return closing_line(spec)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
