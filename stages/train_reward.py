"""Train a reward model on preference pairs, and measure it on pairs it has not seen.

reads   models/base, models/<reward.start>, data/ready/<reward.dataset>/{train,test}.jsonl
params  reward, lora
writes  models/reward
"""

import tempfile
from pathlib import Path

from tunesmith.core import ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, preference_pairs, weights
from tunesmith.planning import workload
from tunesmith.training import reward
from tunesmith.training.run import Watch, closing_line, train
from tunesmith.training.spec import Task

MODELS, READY = Path("models"), Path("data/ready")
BASE, OUT = MODELS / "base", MODELS / "reward"


def main() -> str:
    p, lora = load(reward.Reward, "reward"), load(weights.Lora, "lora")
    train_file, held_out_file = (READY / p.dataset / f"{split}.jsonl" for split in ("train", "test"))
    rows = ready_rows.read(train_file)
    row_kinds.check_rows("reward", rows, train_file)
    profile = device.detect()
    device.set_seed(p.seed)
    scorer = loading.new_reward_model(MODELS / p.start, BASE, profile, p.weights, lora)
    given = preference_pairs.encode(scorer.tokenizer, rows, p.max_length, "reward", train_file)
    unseen = preference_pairs.encode(
        scorer.tokenizer, ready_rows.read(held_out_file), p.max_length, "reward", held_out_file
    )
    task = Task(
        out=OUT,
        objective="reward",
        title="reward model",
        kind=p.weights,
        start=MODELS / p.start,
        dataset=p.dataset,
        rows=len(rows),
        inputs=[train_file, held_out_file],
        params={"reward": p.model_dump(), "lora": lora.model_dump()},
        seed=p.seed,
        footprint=workload.of_pairs("reward", p, p.weights, lora, profile, given),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = reward.make_trainer(scorer, given, p, profile, Path(scratch))
        watch = Watch(rows_of=trainer.data_collator.rows_of, prefers=reward.held_out(scorer, unseen, p.batch_size))
        train(trainer, scorer, task, watch, profile, tokens=p.epochs * sum(pair.tokens for pair in given))
    return closing_line(task)


if __name__ == "__main__":
    run(main)
