"""Train a policy on rewards from verifiers with GRPO, after checking that their score can be learned from.

    python -m stages.train_grpo NAME

reads   models/base, models/<start>, data/ready/<dataset>/{train,validation}.jsonl
params  grpo.<name>, and judge where refusal_by names it
writes  models/<name>
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tunesmith.core import layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.data import row_kinds
from tunesmith.models import device, loading
from tunesmith.training import fit
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.objectives import grpo, rollouts, verifier_rewards
from tunesmith.training.run import closing_line, train
from tunesmith.training.spec import TrainingSpec, trained
from tunesmith.training.watch import Watch
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge


def main(name: str) -> str:
    section = f"grpo.{name}"
    entry = load(Grpo, section, path=resolved("train_grpo", name))
    train_file, held_out_file = (layout.split(entry.dataset, split) for split in ("train", "validation"))
    rows = ready_rows.read(train_file)
    held_out = ready_rows.read(held_out_file, may_be_empty=True)[: entry.eval_rows]
    row_kinds.check_rows("grpo", rows, train_file)
    judge = load(Judge, "judge", path=resolved("train_grpo", name)) if entry.refusal_by == "judge" else None
    score = verifier_rewards.Score(entry.rewards, judge)
    verifier_rewards.check_gold(score, rows, str(train_file))
    if judge is not None:
        print(f"  {judged_refusal.check_believed(judge)}", flush=True)
    profile = device.detect()
    device.set_seed(entry.seed)
    start = layout.MODELS / entry.start
    policy = loading.open_policy(start, layout.BASE, profile, entry.weights, entry.lora)
    entry = entry.at_size(policy.hidden_size)
    if held_out:
        verifier_rewards.check_gold(score, held_out, str(held_out_file))
    lengths = rollouts.check(policy, rows, entry, section, train_file)
    fitted = fit.choose("grpo", entry, policy, rollouts.batchable(entry, max(lengths)))
    spec = TrainingSpec(
        out=layout.MODELS / name,
        objective="grpo",
        entry=entry,
        start=start,
        rows=len(rows),
        also=None if judge is None else {"judge": judge.model_dump(mode="json")},
        datasets=trained(rows),
        inputs=[train_file, held_out_file],
        largest_step=fitted.largest_step,
    )
    signal = grpo.probed_once(policy, rows, score, spec, profile)
    rollouts.check(policy, signal.spread, entry, section, train_file)
    rollouts.check_agreement(policy, signal.spread, entry)
    spec = replace(spec, rows=len(signal.spread))
    with tempfile.TemporaryDirectory() as scratch:
        prompts = rollouts.dataset(signal.spread, entry)
        trainer = grpo.make_trainer(policy, prompts, score, fitted.entry, fitted.profile, Path(scratch))
        watch = Watch(
            probes=held_out[: entry.probes],
            rows_of=lambda step: score.last,
            measure=rollouts.validation(policy, held_out, entry, score.of_all),
            max_kl=entry.max_kl,
            epochs=entry.steps // entry.num_iterations * entry.prompts / len(signal.spread),
            signal={"mean": signal.mean, "equal_groups": signal.equal_groups},
            files={grpo.SIGNAL: grpo.text_of(signal)},
        )
        train(trainer, policy, spec, watch, fitted.profile)
    return closing_line(spec)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
