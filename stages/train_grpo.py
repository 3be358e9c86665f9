"""Train a policy on rewards from verifiers with GRPO, after checking that their score can be learned from.

    python -m stages.train_grpo NAME

reads   models/base, models/<start>, data/ready/<dataset>/{train,validation}.jsonl and images/
params  grpo.<name>, judge where refusal_by names it, and engine where vLLM writes the completions
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
from tunesmith.data import row_kinds
from tunesmith.models import collectives, device, loading
from tunesmith.models.loading import OpenModel
from tunesmith.training import fit, sharding
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.fit import Fit
from tunesmith.training.objectives import grpo, rollout_engine, rollouts, verifier_rewards
from tunesmith.training.objectives.engine_policy import EnginePolicy
from tunesmith.training.objectives.verifier_rewards import Score
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
    params = resolved("train_grpo", name)
    judge = load(Judge, "judge", path=params) if entry.refusal_by == "judge" else None
    score = verifier_rewards.Score(entry.rewards, judge)
    chosen = rollout_engine.choose(section, entry, params)
    profile = sharding.choose("grpo", entry, layout.BASE, device.detect())
    collectives.once(lambda: verifier_rewards.check_gold(score, rows, str(train_file)))
    if judge is not None:
        print(f"  {collectives.once(lambda: judged_refusal.check_believed(judge))}", flush=True)
    device.set_seed(entry.seed)
    start = layout.MODELS / entry.start
    images = [layout.images(entry.dataset)]
    policy = loading.open_policy(
        start, layout.BASE, profile, entry.weights, entry.lora, vision=entry.vision, images=images
    )
    entry = entry.at_size(policy.hidden_size)
    if held_out:
        collectives.once(lambda: verifier_rewards.check_gold(score, held_out, str(held_out_file)))
    lengths = rollouts.check(policy, rows, entry, section, train_file)
    seen = rollouts.image_tokens(policy.tokenizer, rows)
    fitted = fit.choose("grpo", entry, policy, rollouts.batchable(entry, max(lengths), seen))
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
        engine=rollout_engine.recorded(chosen, policy),
    )
    with rollout_engine.opened(chosen, policy, entry, section, rows, held_out) as engine:
        _train(policy, rows, held_out, score, spec, fitted, engine)
    return closing_line(spec)


def _train(
    policy: OpenModel,
    rows: list[Row],
    held_out: list[Row],
    score: Score,
    spec: TrainingSpec,
    fitted: Fit[Grpo],
    engine: EnginePolicy | None,
) -> None:
    """Probe the reward, and train on the prompts that can teach."""
    entry, profile = fitted.entry, policy.profile
    signal = grpo.probed_once(policy, rows, score, spec, profile, engine)
    rollouts.check(policy, signal.spread, entry, f"grpo.{spec.out.name}", spec.inputs[0])
    rollouts.check_agreement(policy, signal.spread, entry, engine)
    spec = replace(spec, rows=len(signal.spread))
    with tempfile.TemporaryDirectory() as scratch:
        prompts = rollouts.dataset(signal.spread, entry)
        trainer = grpo.make_trainer(policy, prompts, score, entry, fitted.profile, Path(scratch), engine)
        watch = Watch(
            probes=held_out[: entry.probes],
            rows_of=lambda step: score.last,
            measure=rollouts.validation(policy, held_out, entry, score.of_all, engine),
            max_kl=entry.max_kl,
            max_drift=entry.rollouts.max_drift,
            epochs=entry.steps // entry.num_iterations * entry.prompts / len(signal.spread),
            signal={"mean": signal.mean, "equal_groups": signal.equal_groups},
            files={grpo.SIGNAL: grpo.text_of(signal)},
        )
        train(trainer, policy, spec, watch, fitted.profile)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
