"""Direct preference optimization (Rafailov et al. 2023) from pairs, against log-probabilities computed beforehand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import ReferenceRow
from tunesmith.models import preference_pairs
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.preference_pairs import Pair
from tunesmith.models.weights import preserve_trainable
from tunesmith.training import pair_batches
from tunesmith.training.checks import Preference
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.trainer_config import common


class Reference:
    """What the reference policy gives the completions of every pair: log-probabilities by row id, in nats."""

    def __init__(self, rows: list[ReferenceRow], source: Path) -> None:
        """rows: {id, chosen, rejected}, as the stage `reference` writes them to ``source``."""
        self.source = source
        self.values = {row["id"]: (float(row["chosen"]), float(row["rejected"])) for row in rows}

    def of(self, given: list[Pair]) -> list[tuple[float, float]]:
        """In the order of ``given``. Raises DataError where a pair is not there."""
        absent = [pair.id for pair in given if pair.id not in self.values]
        if absent:
            raise DataError(
                f"{self.source}: no log-probabilities for {len(absent)} of {len(given)} pairs (rows {absent[0]}, …)",
                fix="`dvc repro` computes them again",
            )
        return [self.values[pair.id] for pair in given]


class PairTrainer(DPOTrainer):
    """TRL's trainer over pairs that are tokens already, bring their reference log-probabilities, and share a prompt."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return super()._compute_loss(pair_batches.shared(model, inputs), inputs, return_outputs)


def make_trainer(
    policy: OpenModel, train: list[Pair], reference: Reference, dpo: Dpo, profile: Profile, scratch: Path
) -> PairTrainer:
    """TRL's trainer; the reference policy itself never computes."""
    config = DPOConfig(
        **common(dpo, profile, scratch),
        num_train_epochs=dpo.epochs,
        beta=dpo.beta,
        max_length=None,  # checked before
        precompute_ref_log_probs=True,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
    )
    chosen, rejected = zip(*reference.of(train), strict=True)
    rows = pair_batches.columns(train) | dict(zip(pair_batches.REFERENCE, (chosen, rejected), strict=True))
    with preserve_trainable(policy.model):
        return PairTrainer(
            policy.model,
            args=config,
            train_dataset=Dataset.from_dict(rows),
            data_collator=pair_batches.collator(policy.tokenizer.pad_token_id),
            processing_class=policy.tokenizer,
        )


def held_out(
    policy: OpenModel, given: list[Pair], reference: Reference, dpo: Dpo
) -> tuple[Preference, Callable[[], Preference]]:
    """Held-out preference by the implicit reward: of the start, which is the reference, and a measure of it."""
    before = reference.of(given)
    start = pair_batches.implicit_preference(before, before, dpo.beta)
    return start, lambda: pair_batches.implicit_preference(
        preference_pairs.log_probs(policy, given, dpo.batch_size), before, dpo.beta
    )
