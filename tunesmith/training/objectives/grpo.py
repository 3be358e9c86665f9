"""Group relative policy optimization (Shao et al. 2024): RL with rewards from verifiers."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm import tqdm
from trl import GRPOConfig, GRPOTrainer

from tunesmith.core import checkpoints, files
from tunesmith.core.ready_rows import Row
from tunesmith.models import generation
from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens
from tunesmith.models.weights import preserve_trainable
from tunesmith.training import spec as specs
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.objectives import verifier_rewards
from tunesmith.training.objectives.rollouts import Rollouts, arguments, hold_to_start
from tunesmith.training.objectives.verifier_rewards import Score, Signal
from tunesmith.training.spec import TrainingSpec

SIGNAL = "signal.json"
"""The file beside the checkpoints with what the probe found."""


def probe(policy: OpenModel, rows: list[Row], score: Score, grpo: Grpo) -> Signal:
    """Check the reward on the starting policy's answers to as many rows as the steps will take.

    Raises TrainingError where `verifier_rewards.check_rollouts` finds no signal.
    """
    rows = rows[: grpo.steps // grpo.num_iterations * grpo.prompts]
    size = max(1, grpo.batch_size // grpo.probe)
    answers = []
    for begin in tqdm(range(0, len(rows), size), desc="probing the reward", dynamic_ncols=True):
        answers += generation.sample(
            policy.model,
            policy.tokenizer,
            rows[begin : begin + size],
            group=grpo.probe,
            max_new_tokens=grpo.max_new_tokens,
            temperature=grpo.temperature,
        )
    signal = verifier_rewards.check_rollouts(score, rows, answers)
    print(
        f"  before: mean score {signal.mean:.2f}; {len(signal.spread)} of {len(rows)} prompts have answers of "
        f"different scores among {grpo.probe}, and are trained on"
    )
    return signal


def probed_once(policy: OpenModel, rows: list[Row], score: Score, spec: TrainingSpec, profile: Profile) -> Signal:
    """`probe`, or what it found before the training was killed: sampled again, other prompts might be left out."""
    origin = specs.lineage_of(policy, spec, profile)
    found = checkpoints.place(spec.out.name, checkpoints.key(origin, spec.also)) / SIGNAL
    if found.exists():
        kept = json.loads(found.read_text())
        return Signal(kept["mean"], kept["equal_groups"], [row for row in rows if row["id"] in {*kept["spread"]}])
    assert isinstance(spec.entry, Grpo)
    signal = probe(policy, rows, score, spec.entry)
    files.write_text(found, text_of(signal))
    return signal


def text_of(signal: Signal) -> str:
    """A signal as SIGNAL has it: with the ids of the rows in place of the rows."""
    spread = [row["id"] for row in signal.spread]
    return json.dumps({"mean": signal.mean, "equal_groups": signal.equal_groups, "spread": spread})


class Trainer(Rollouts, GRPOTrainer):
    """TRL's trainer with the rollouts of `rollouts.Rollouts`."""

    def _generate_single_turn(self, prompt_ids: list[Tokens], *_: Any, **__: Any) -> tuple[list[Tokens], None]:
        return self._answer(prompt_ids), None


def make_trainer(
    policy: OpenModel, prompts: Dataset, score: Score, grpo: Grpo, profile: Profile, scratch: Path
) -> Trainer:
    """TRL's trainer: advantages within a group, the reference policy a copy of the start."""
    attend_packed(policy.model)
    with preserve_trainable(policy.model):
        trainer = Trainer(
            policy.model,
            reward_funcs=[score],
            args=GRPOConfig(
                **arguments(grpo, profile, scratch),
                loss_type=grpo.loss_type,
                delta=grpo.delta,
                importance_sampling_level=grpo.importance_sampling_level,
                scale_rewards=grpo.scale_rewards,
            ),
            train_dataset=prompts,
            processing_class=policy.tokenizer,
        )
    hold_to_start(trainer, grpo)
    return trainer
