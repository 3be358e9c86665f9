"""RL from human feedback: RLOO (Ahmadian et al. 2024) against a reward model, while a verifier grades."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import RLOOConfig, RLOOTrainer

from tunesmith.core.ready_rows import Row
from tunesmith.models import chat
from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens
from tunesmith.models.weights import preserve_trainable
from tunesmith.training.entries.rlhf import Rlhf
from tunesmith.training.objectives import reward
from tunesmith.training.objectives.engine_policy import EnginePolicy
from tunesmith.training.objectives.rollouts import Rollouts, arguments, hold_to_start
from tunesmith.training.objectives.verifier_rewards import Score


class RewardModel:
    """A reward model as a reward function of TRL: it scores the tokens that the policy read and wrote."""

    __name__ = "reward_model"

    def __init__(self, scorer: OpenModel, batch_size: int) -> None:
        self.scorer, self.batch_size = scorer, batch_size
        self.last: list[str] = []

    def __call__(self, prompts: list[str], completion_ids: list[Tokens], row_id: list[str], **_: Any) -> list[float]:
        self.last = list(dict.fromkeys(row_id))
        tokenizer = self.scorer.tokenizer
        prompt_ids = [chat.encode_prompt(tokenizer, *json.loads(prompt)) for prompt in prompts]
        conversations = [prompt + list(answer) for prompt, answer in zip(prompt_ids, completion_ids, strict=True)]
        return reward.scores(self.scorer, conversations, self.batch_size)


def watched(judge: RewardModel, rlhf: Rlhf) -> Callable[[list[str], list[Row]], list[float | None]]:
    """The reward of answers to held-out prompts: the verifier's score, or the reward model's where none is named."""
    if rlhf.verifier is not None:
        return Score({rlhf.verifier: 1.0}).of_all
    tokenizer = judge.scorer.tokenizer

    def rewards(answers: list[str], rows: list[Row]) -> list[float | None]:
        conversations = [
            chat.encode_prompt(tokenizer, row["prompt"], row.get("tools"))
            + tokenizer.encode(answer, add_special_tokens=False)
            + [tokenizer.eos_token_id]
            for answer, row in zip(answers, rows, strict=True)
        ]
        return list(reward.scores(judge.scorer, conversations, judge.batch_size))

    return rewards


class Trainer(Rollouts, RLOOTrainer):
    """TRL's trainer with the rollouts of `rollouts.Rollouts`.

    An answer that another engine wrote is weighed by the ratio of the policy's probability of it to the engine's, up to
    ``max_ratio``. TRL does so in GRPO alone; in RLOO an answer is one action, so that its ratio is one too. It is a
    factor of the advantage, which is a factor of the loss.
    """

    max_ratio = 1.0
    _sampled: list[list[float]] | None = None
    """The engine's log-probabilities of the answers that are not weighed yet."""
    _ratios: Tensor | None = None
    _drift: float | None = None

    def _generate_single_turn(self, prompt_ids: list[Tokens], *_: Any, **__: Any) -> list[Tokens]:
        completions, self._sampled = self._answer(prompt_ids)
        return completions

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> Any:
        values = super()._get_per_token_logps_and_entropies(*args, **options)
        if self._sampled is not None:  # the first that TRL computes of new answers are those of the policy
            self._ratios, self._drift = truncated_ratios(values[0], self._sampled, self.max_ratio)
            self._sampled = None
        return values

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        if self._ratios is not None:
            batch["advantages"] = batch["advantages"] * self._ratios
        return batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._drift is not None:
            logs["drift"], self._drift = self._drift, None
        super().log(logs, start_time)


def truncated_ratios(policy: Tensor, sampled: list[list[float]], most: float) -> tuple[Tensor, float]:
    """The ratio of the policy's probability of each answer to the one that it was drawn by, at most ``most``; and the
    mean difference of their log-probabilities, in nats a token.

    policy: log-probabilities, (answers, tokens of the longest). sampled: those that they were drawn by.
    """
    differences = [
        row[: len(drawn)].float() - torch.tensor(drawn, device=row.device)
        for row, drawn in zip(policy, sampled, strict=True)
    ]
    ratios = torch.stack([difference.sum() for difference in differences]).exp().clamp(max=most)
    return ratios, float(torch.cat(differences).abs().mean())


def make_trainer(
    policy: OpenModel,
    scorer: RewardModel,
    prompts: Dataset,
    rlhf: Rlhf,
    profile: Profile,
    scratch: Path,
    engine: EnginePolicy | None = None,
) -> Trainer:
    """TRL's trainer: an answer's advantage is over the other answers to its prompt, after the KL penalty.

    engine: writes the completions where it is not None.
    """
    watched = [] if rlhf.verifier is None else [Score({rlhf.verifier: 1.0})]
    attend_packed(policy.model)
    with preserve_trainable(policy.model):
        trainer = Trainer(
            policy.model,
            reward_funcs=[scorer, *watched],
            args=RLOOConfig(
                **arguments(rlhf, profile, scratch),
                reward_weights=[1.0, *(0.0 for _ in watched)],
                normalize_advantages=rlhf.normalize_advantages,
                reward_clip_range=rlhf.reward_clip_range,
            ),
            train_dataset=prompts,
            processing_class=policy.tokenizer,
        )
    trainer.engine, trainer.max_ratio = engine, rlhf.rollouts.max_ratio
    hold_to_start(trainer, rlhf)
    return trainer
