"""RL from human feedback: RLOO (Ahmadian et al. 2024) against a reward model, while a verifier grades."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
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
    """TRL's trainer with the rollouts of `rollouts.Rollouts`."""

    def _generate_single_turn(self, prompt_ids: list[Tokens], *_: Any, **__: Any) -> list[Tokens]:
        return self._answer(prompt_ids)


def make_trainer(
    policy: OpenModel, scorer: RewardModel, prompts: Dataset, rlhf: Rlhf, profile: Profile, scratch: Path
) -> Trainer:
    """TRL's trainer: an answer's advantage is over the other answers to its prompt, after the KL penalty."""
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
    hold_to_start(trainer, rlhf)
    return trainer
