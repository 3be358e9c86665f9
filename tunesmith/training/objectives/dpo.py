"""Direct preference optimization (Rafailov et al. 2023) from pairs, against log-probabilities computed beforehand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import ReferenceRow
from tunesmith.models import preference_pairs
from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.preference_pairs import Pair
from tunesmith.models.weights import preserve_trainable
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.measurements import Preference
from tunesmith.training.objectives import pair_batches
from tunesmith.training.trainer_config import WeighedBatches, common, no_digest


class Reference:
    """The reference policy's log-probabilities, in nats, of the completions of every pair, by row id."""

    def __init__(self, rows: list[ReferenceRow], source: Path) -> None:
        """rows: the rows that the stage `reference` wrote to ``source``."""
        self.source = source
        self.values = {row["id"]: (float(row["chosen"]), float(row["rejected"])) for row in rows}

    def of(self, pairs: list[Pair]) -> list[tuple[float, float]]:
        """The values (chosen, rejected) of ``pairs``, in their order. Raises DataError where one is missing."""
        absent = [pair.id for pair in pairs if pair.id not in self.values]
        if absent:
            raise DataError(
                f"{self.source}: no log-probabilities for {len(absent)} of {len(pairs)} pairs (rows {absent[0]}, …)",
                fix="`dvc repro` computes them again",
            )
        return [self.values[pair.id] for pair in pairs]


class PairTrainer(WeighedBatches, DPOTrainer):
    """TRL's trainer over tokenized pairs with their reference log-probabilities: each prompt once, or no padding."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return super()._compute_loss(pair_batches.shared(model, inputs), inputs, return_outputs)


def make_trainer(
    policy: OpenModel, train: list[Pair], reference: Reference, dpo: Dpo, profile: Profile, scratch: Path
) -> PairTrainer:
    """TRL's trainer, with the log-probabilities of ``reference`` in place of a reference policy."""
    attend_packed(policy.model)
    config = DPOConfig(
        **common(dpo, profile, scratch),
        beta=dpo.beta,
        loss_type=list(dpo.loss_type),
        loss_weights=list(dpo.loss_type.values()),
        label_smoothing=dpo.label_smoothing,
        max_length=None,  # checked by preference_pairs.encode
        precompute_ref_log_probs=True,
        num_train_epochs=1,  # of rows that are in the order of all epochs
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
    )
    pairs = pair_batches.in_order(train, dpo.examples_a_step, seed=dpo.seed, epochs=dpo.epochs)
    chosen, rejected = zip(*reference.of(pairs), strict=True)
    rows = pair_batches.columns(pairs) | dict(zip(pair_batches.REFERENCE, (chosen, rejected), strict=True))
    with preserve_trainable(policy.model), no_digest(dpo_trainer):
        return PairTrainer(
            policy.model,
            args=config,
            train_dataset=Dataset.from_dict(rows),
            data_collator=pair_batches.collator(policy.tokenizer.pad_token_id),
            processing_class=policy.tokenizer,
        )


def validation(
    policy: OpenModel, pairs: list[Pair], reference: Reference, dpo: Dpo
) -> tuple[Preference | None, Callable[[], Preference] | None]:
    """The preference over held-out pairs at the start, where the policy is its reference, and a function to measure it
    again; without pairs there is nothing to measure.
    """
    if not pairs:
        return None, None
    before = reference.of(pairs)
    tokens = sum(len(pair.chosen) for pair in pairs)
    start = pair_batches.implicit_preference(before, before, dpo.beta, tokens)
    return start, lambda: pair_batches.implicit_preference(
        preference_pairs.log_probs(policy, pairs, dpo.batch_size), before, dpo.beta, tokens
    )
