"""Train a policy on rewards from verifiers with GRPO, after proving that their score is solid.

reads   models/base, models/<grpo.start>, data/ready/<grpo.dataset>/{train,test}.jsonl
params  grpo, lora
writes  models/grpo
"""

import tempfile
from pathlib import Path

from tunesmith.core import ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.data import row_kinds
from tunesmith.models import device, loading, weights
from tunesmith.planning import workload
from tunesmith.training import grpo, rollouts, verifier_rewards
from tunesmith.training.run import Watch, closing_line, train
from tunesmith.training.spec import Task

MODELS, READY = Path("models"), Path("data/ready")
BASE, OUT = MODELS / "base", MODELS / "grpo"


def main() -> str:
    p, lora = load(grpo.Grpo, "grpo"), load(weights.Lora, "lora")
    train_file, held_out_file = (READY / p.dataset / f"{split}.jsonl" for split in ("train", "test"))
    rows, held_out = ready_rows.read(train_file), ready_rows.read(held_out_file) if p.probes else []
    row_kinds.check_rows("grpo", rows, train_file)
    score = verifier_rewards.Score(p.rewards)
    verifier_rewards.check_gold(score, rows, str(train_file))
    profile = device.detect()
    device.set_seed(p.seed)
    policy = loading.open_policy(MODELS / p.start, BASE, profile, p.weights, lora)
    rollouts.dataset(policy, rows, p, "grpo", train_file)  # whose lengths are checked before anything is asked
    signal = grpo.probe(policy, rows, score, p)
    prompts = rollouts.dataset(policy, signal.spread, p, "grpo", train_file)
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
        footprint=workload.of_online("grpo", p, lora, profile, max(prompts["tokens"])),
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
