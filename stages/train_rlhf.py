"""Push a policy towards a reward model with RLOO: the second half of RLHF, after train_reward.

reads   models/base, models/<rlhf.start>, models/reward, models/<reward.start>,
        data/ready/<rlhf.dataset>/{train,test}.jsonl
params  rlhf, lora
writes  models/rlhf
"""

import tempfile
from pathlib import Path

from tunesmith.core import ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.models import device, loading, weights
from tunesmith.planning import workload
from tunesmith.training import rlhf, rollouts, verifier_rewards
from tunesmith.training.run import Watch, closing_line, train
from tunesmith.training.spec import Task

MODELS, READY = Path("models"), Path("data/ready")
BASE, REWARD, OUT = MODELS / "base", MODELS / "reward", MODELS / "rlhf"


def main() -> str:
    p, lora = load(rlhf.Rlhf, "rlhf"), load(weights.Lora, "lora")
    train_file, held_out_file = (READY / p.dataset / f"{split}.jsonl" for split in ("train", "test"))
    rows, held_out = ready_rows.read(train_file), ready_rows.read(held_out_file) if p.probes else []
    if p.verifier is not None:
        verifier_rewards.check_gold(verifier_rewards.Score({p.verifier: 1.0}), rows, str(train_file))
    profile = device.detect()
    device.set_seed(p.seed)
    policy = loading.open_policy(MODELS / p.start, BASE, profile, p.weights, lora)
    scorer = loading.open_reward_model(REWARD, BASE, profile, quantized=p.weights == "qlora")
    prompts = rollouts.dataset(policy, rows, p, "rlhf", train_file)
    task = Task(
        out=OUT,
        objective="rlhf",
        title="RLHF",
        kind=p.weights,
        start=MODELS / p.start,
        dataset=p.dataset,
        rows=len(rows),
        inputs=[train_file, held_out_file],
        params={"rlhf": p.model_dump(), "lora": lora.model_dump()},
        seed=p.seed,
        footprint=workload.of_online("rlhf", p, lora, profile, max(prompts["tokens"])),
        upstream=(REWARD,),
    )
    with tempfile.TemporaryDirectory() as scratch:
        judge = rlhf.RewardModel(scorer, p.batch_size)
        trainer = rlhf.make_trainer(policy, judge, prompts, p, profile, Path(scratch))
        watch = Watch(
            probes=[row["prompt"] for row in held_out[: p.probes]],
            rows_of=lambda step: judge.last,
            max_kl=p.max_kl,
        )
        train(trainer, policy, task, watch, profile)
    return closing_line(task)


if __name__ == "__main__":
    run(main)
