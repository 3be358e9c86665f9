"""Train a policy on rewards from verifiers with GRPO, after proving that their score is solid.

reads   models/base, models/<grpo.start>, data/ready/<grpo.dataset>/{train,test}.jsonl
params  grpo, lora
writes  models/grpo
"""

import tempfile
from pathlib import Path

from tunesmith import device, footprint, grpo, labels, models, online, ready, scoring, weights
from tunesmith.console import run
from tunesmith.params import load
from tunesmith.task import Task
from tunesmith.training import Watch, closing_line, train

MODELS, READY = Path("models"), Path("data/ready")
BASE, OUT = MODELS / "base", MODELS / "grpo"


def main() -> str:
    p, lora = load(grpo.Grpo, "grpo"), load(weights.Lora, "lora")
    train_file, held_out_file = (READY / p.dataset / f"{split}.jsonl" for split in ("train", "test"))
    rows, held_out = ready.read(train_file), ready.read(held_out_file) if p.probes else []
    labels.check_rows("grpo", rows, train_file)
    score = scoring.Score(p.rewards)
    scoring.check_gold(score, rows, str(train_file))
    profile = device.detect()
    device.set_seed(p.seed)
    policy = models.open_policy(MODELS / p.start, BASE, profile, p.weights, lora)
    online.dataset(policy, rows, p, "grpo", train_file)  # whose lengths are checked before anything is asked
    signal = grpo.probe(policy, rows, score, p)
    prompts = online.dataset(policy, signal.spread, p, "grpo", train_file)
    task = Task(
        out=OUT,
        objective="grpo",
        title="GRPO",
        kind=p.weights,
        start=MODELS / p.start,
        dataset=p.dataset,
        rows=len(signal.spread),
        inputs=[train_file, held_out_file],
        params={"grpo": p.model_dump(), "lora": lora.model_dump()},
        seed=p.seed,
        footprint=footprint.of_online("grpo", p, lora, profile, max(prompts["tokens"])),
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = grpo.make_trainer(policy, prompts, score, p, profile, Path(scratch))
        watch = Watch(
            probes=[row["prompt"] for row in held_out[: p.probes]],
            rows_of=lambda step: score.last,
            max_kl=p.max_kl,
            signal={"mean": signal.mean, "equal_groups": signal.equal_groups},
        )
        train(trainer, policy, task, watch, profile)
    return closing_line(task)


if __name__ == "__main__":
    run(main)
