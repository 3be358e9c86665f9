"""A reward model from preference pairs: a policy whose head gives a conversation one score (Bradley and Terry 1952)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from tunesmith.models import collectives, device
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, padded
from tunesmith.models.preference_pairs import Pair
from tunesmith.models.weights import preserve_trainable
from tunesmith.training import measurements
from tunesmith.training.entries.reward import Reward
from tunesmith.training.measurements import Preference
from tunesmith.training.objectives import pair_batches
from tunesmith.training.trainer_config import WeighedBatches, common


class SharedPromptTrainer(RewardTrainer):
    """TRL's trainer over tokenized pairs; each prompt is computed once."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **settings: Any) -> Any:
        shared = pair_batches.shared(model, inputs)
        conversations = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return super().compute_loss(shared, conversations, *args, **settings)


class PairTrainer(WeighedBatches, SharedPromptTrainer):
    """The same, with every pair of a step at equal weight."""


def make_trainer(scorer: OpenModel, train: list[Pair], reward: Reward, profile: Profile, scratch: Path) -> PairTrainer:
    """TRL's trainer over tokenized pairs, in batches of similar length."""
    config = RewardConfig(
        **common(reward, profile, scratch),
        max_length=None,  # checked by preference_pairs.encode
        num_train_epochs=1,  # of rows that are in the order of all epochs
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
    )
    pairs = pair_batches.in_order(train, reward.examples_a_step, seed=reward.seed, epochs=reward.epochs)
    with preserve_trainable(scorer.model):
        return PairTrainer(
            scorer.model,
            args=config,
            train_dataset=Dataset.from_dict(pair_batches.columns(pairs)),
            data_collator=pair_batches.collator(scorer.tokenizer.pad_token_id),
            processing_class=scorer.tokenizer,
        )


def scores(scorer: OpenModel, conversations: Sequence[Tokens], batch_size: int) -> list[float]:
    """The reward of every conversation, in their order. Batches hold similar lengths, to pad little."""
    model, pad = scorer.model, scorer.tokenizer.pad_token_id
    was_training = model.training
    model.eval()
    order = sorted(range(len(conversations)), key=lambda i: len(conversations[i]))
    rewards: dict[int, float] = {}
    for begin in range(0, len(order), batch_size):
        chunk = order[begin : begin + batch_size]
        ids, mask = padded([conversations[i] for i in chunk], pad, left=False)
        with collectives.without_gradients(model), device.autocast(scorer.profile):
            logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
        rewards |= dict(zip(chunk, logits[:, 0].float().tolist(), strict=True))
    model.train(was_training)
    return [rewards[i] for i in range(len(conversations))]


def validation(scorer: OpenModel, pairs: list[Pair], batch_size: int) -> Callable[[], Preference] | None:
    """A function that measures the model's preference over held-out pairs; None without pairs."""
    if not pairs:
        return None
    sides = [pair.prompt + side for pair in pairs for side in (pair.chosen, pair.rejected)]

    def measure() -> Preference:
        rewards = collectives.spread(scorer.model, sides, lambda part: scores(scorer, part, 2 * batch_size))
        return measurements.preference(rewards[::2], rewards[1::2])

    return measure
