"""Push a policy towards a reward model with RLOO: the second half of RLHF, after train_reward.

    python -m stages.train_rlhf NAME

reads   models/base, models/<start>, models/<reward>, data/ready/<dataset>/{train,validation}.jsonl
params  rlhf.<name>, and engine where vLLM writes the completions
writes  models/<name>
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tunesmith.core import layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.core.ready_rows import Row
from tunesmith.models import device, loading
from tunesmith.models.loading import OpenModel
from tunesmith.training import fit, sharding
from tunesmith.training.entries.rlhf import Rlhf
from tunesmith.training.fit import Fit
from tunesmith.training.objectives import rlhf, rollout_engine, rollouts, verifier_rewards
from tunesmith.training.objectives.engine_policy import EnginePolicy
from tunesmith.training.run import closing_line, train
from tunesmith.training.spec import TrainingSpec, trained
from tunesmith.training.watch import Watch


def main(name: str) -> str:
    section = f"rlhf.{name}"
    entry = load(Rlhf, section, path=resolved("train_rlhf", name))
    train_file, held_out_file = (layout.split(entry.dataset, split) for split in ("train", "validation"))
    rows = ready_rows.read(train_file)
    held_out = ready_rows.read(held_out_file, may_be_empty=True)[: entry.eval_rows]
    if entry.verifier is not None:
        verifier = verifier_rewards.Score({entry.verifier: 1.0})
        for file, asked in ((train_file, rows), (held_out_file, held_out)):
            verifier_rewards.check_gold(verifier, asked, str(file))
    chosen = rollout_engine.choose(section, entry, resolved("train_rlhf", name))
    profile = sharding.choose("rlhf", entry, layout.BASE, device.detect())
    device.set_seed(entry.seed)
    start, reward = layout.MODELS / entry.start, layout.MODELS / entry.reward
    policy = loading.open_policy(start, layout.BASE, profile, entry.weights, entry.lora)
    entry = entry.at_size(policy.hidden_size)
    scorer = loading.open_reward_model(
        reward, layout.BASE, replace(profile, sharded=False), quantized=entry.weights == "qlora"
    )
    lengths = rollouts.check(policy, rows, entry, section, train_file)
    fitted = fit.choose("rlhf", entry, policy, rollouts.batchable(entry, max(lengths)))
    spec = TrainingSpec(
        out=layout.MODELS / name,
        objective="rlhf",
        entry=entry,
        start=start,
        rows=len(rows),
        datasets=trained(rows),
        inputs=[train_file, held_out_file],
        largest_step=fitted.largest_step,
        upstream=(reward,),
        engine=rollout_engine.recorded(chosen, policy),
    )
    with rollout_engine.opened(chosen, policy, entry, section, rows, held_out) as engine:
        _train(policy, rows, held_out, scorer, spec, fitted, engine)
    return closing_line(spec)


def _train(
    policy: OpenModel,
    rows: list[Row],
    held_out: list[Row],
    scorer: OpenModel,
    spec: TrainingSpec,
    fitted: Fit[Rlhf],
    engine: EnginePolicy | None,
) -> None:
    """Train on the rewards of ``scorer``."""
    entry = fitted.entry
    rollouts.check_agreement(policy, rows, entry, engine)
    with tempfile.TemporaryDirectory() as scratch:
        judge = rlhf.RewardModel(scorer, entry.batch_size)
        prompts = rollouts.dataset(rows, entry)
        trainer = rlhf.make_trainer(policy, judge, prompts, entry, fitted.profile, Path(scratch), engine)
        watch = Watch(
            probes=held_out[: entry.probes],
            rows_of=lambda step: judge.last,
            measure=rollouts.validation(policy, held_out, entry, rlhf.watched(judge, entry), engine),
            max_kl=entry.max_kl,
            max_drift=entry.rollouts.max_drift,
            epochs=entry.steps // entry.num_iterations * entry.prompts / len(rows),
        )
        train(trainer, policy, spec, watch, fitted.profile)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
