"""Group relative policy optimization (Shao et al. 2024): RL with rewards from verifiers."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm import tqdm
from trl import GRPOConfig, GRPOTrainer

from tunesmith.core import checkpoints, files, processes
from tunesmith.core.ready_rows import Row
from tunesmith.models import collectives, generation
from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens
from tunesmith.models.weights import preserve_trainable
from tunesmith.training import spec as specs
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.objectives import verifier_rewards
from tunesmith.training.objectives.engine_policy import EnginePolicy
from tunesmith.training.objectives.rollouts import Rollouts, arguments, hold_to_start, seeds
from tunesmith.training.objectives.verifier_rewards import Score, Signal
from tunesmith.training.spec import TrainingSpec

SIGNAL = "signal.json"
"""The file beside the checkpoints with what the probe found."""


def probe(policy: OpenModel, rows: list[Row], score: Score, grpo: Grpo, engine: EnginePolicy | None = None) -> Signal:
    """Check the reward on the starting policy's answers to as many rows as the steps will take.

    engine: answers where it is not None. Raises TrainingError where `verifier_rewards.check_rollouts` finds no signal.
    """
    rows = rows[: grpo.steps // grpo.num_iterations * grpo.prompts]
    size = max(1, grpo.batch_size // grpo.probe) if engine is None else len(rows)
    answers = []
    shown = processes.is_first()
    for begin in tqdm(range(0, len(rows), size), desc="probing the reward", dynamic_ncols=True, disable=not shown):
        answers += _sample(policy, rows[begin : begin + size], begin, grpo, engine)
    signal = collectives.once(lambda: verifier_rewards.check_rollouts(score, rows, answers, grpo.start))
    print(
        f"  before: mean score {signal.mean:.2f}; {len(signal.spread)} of {len(rows)} prompts have answers of "
        f"different scores among {grpo.probe}, and are trained on"
    )
    return signal


def _sample(policy: OpenModel, rows: list[Row], begin: int, grpo: Grpo, engine: EnginePolicy | None) -> list[list[str]]:
    """`Grpo.probe` answers to each row's prompt. begin: the number of the first row."""
    tokens, temperature = grpo.max_new_tokens, grpo.temperature
    if engine is not None:
        return engine.sample_texts(rows, group=grpo.probe, max_new_tokens=tokens, temperature=temperature)
    numbers = range(begin * grpo.probe, (begin + len(rows)) * grpo.probe)
    return generation.sample(
        policy.model,
        policy.tokenizer,
        rows,
        seeds(grpo.seed, 0, numbers),
        group=grpo.probe,
        max_new_tokens=tokens,
        temperature=temperature,
    )


def probed_once(
    policy: OpenModel,
    rows: list[Row],
    score: Score,
    spec: TrainingSpec,
    profile: Profile,
    engine: EnginePolicy | None = None,
) -> Signal:
    """`probe`, or what it found before the training was killed: sampled again, other prompts might be left out."""
    origin = specs.lineage_of(policy, spec, profile)
    found = checkpoints.place(spec.out.name, checkpoints.key(origin, spec.also)) / SIGNAL
    if (text := collectives.once(lambda: found.read_text() if found.exists() else None)) is not None:
        kept = json.loads(text)
        return Signal(kept["mean"], kept["equal_groups"], [row for row in rows if row["id"] in {*kept["spread"]}])
    assert isinstance(spec.entry, Grpo)
    signal = probe(policy, rows, score, spec.entry, engine)
    if processes.is_first():
        files.write_text(found, text_of(signal))
    return signal


def text_of(signal: Signal) -> str:
    """A signal as SIGNAL has it: with the ids of the rows in place of the rows."""
    spread = [row["id"] for row in signal.spread]
    return json.dumps({"mean": signal.mean, "equal_groups": signal.equal_groups, "spread": spread})


class Trainer(Rollouts, GRPOTrainer):
    """TRL's trainer with the rollouts of `rollouts.Rollouts`."""

    def _generate_single_turn(
        self, prompt_ids: list[Tokens], *_: Any, **__: Any
    ) -> tuple[list[Tokens], list[list[float]] | None]:
        return self._answer(prompt_ids)


def make_trainer(
    policy: OpenModel,
    prompts: Dataset,
    score: Score,
    grpo: Grpo,
    profile: Profile,
    scratch: Path,
    engine: EnginePolicy | None = None,
) -> Trainer:
    """TRL's trainer: advantages within a group, the reference policy a copy of the start.

    engine: writes the completions where it is not None; each token's loss is then weighed by the ratio of the policy's
    probability to the engine's, up to a bound (truncated importance sampling, Yao et al. 2025).
    """
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
                vllm_importance_sampling_mode="token_truncate",
                vllm_importance_sampling_clip_max=grpo.rollouts.max_ratio,
            ),
            train_dataset=prompts,
            processing_class=policy.tokenizer,
        )
    # Known only now, so that TRL starts no client of its own; what is left of its meaning is to weigh the loss.
    trainer.engine, trainer.use_vllm = engine, engine is not None
    hold_to_start(trainer, grpo)
    return trainer
