"""Kahneman-Tversky optimization (Ethayarajh et al. 2024) from single answers, each marked good or bad.

The reference is the policy itself before its first step, so that no second model is in memory. For its estimate of the
KL divergence the loss compares prompts with answers to others: those of the same batch, moved on by one, as TRL does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer
from trl.trainer import kto_trainer

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row
from tunesmith.models import chat
from tunesmith.models.attention.packed_attention import attend_packed
from tunesmith.models.attention.unpadded_rows import UnpaddedRows
from tunesmith.models.device import Profile
from tunesmith.models.images.tokens import image_tokens
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, likelihoods
from tunesmith.models.weights import preserve_trainable
from tunesmith.training import batch_order, measurements
from tunesmith.training.entries.kto import Kto
from tunesmith.training.fit import Batchable
from tunesmith.training.measurements import Preference
from tunesmith.training.spec import LargestStep
from tunesmith.training.trainer_config import BatchRecorder, WeighedBatches, common, no_digest


@dataclass(frozen=True)
class Mark:
    """A marked answer as token ids. id: of its row. completion ends with the end of turn. good: the mark."""

    id: str
    prompt: Tokens
    completion: Tokens
    good: bool

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + len(self.completion)


class MarkTrainer(WeighedBatches, KTOTrainer):
    """TRL's trainer over tokenized answers with their reference log-probabilities, without padding."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_kl_logps(self, model: Any, batch: dict[str, Any]) -> Any:
        """Weighed so that TRL's mean of the processes' means is the mean of all rows."""
        values = super()._compute_kl_logps(model, batch)
        if values is None:
            return None
        reference = batch["ref_KL_logps"]
        return reference + self.part * (values - reference)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return super()._compute_loss(UnpaddedRows(model), inputs, return_outputs)


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: list[Row], max_length: int, section: str, source: Path
) -> list[Mark]:
    """Rows as tokens. Raises DataError for rows over ``max_length``, of which none is cut."""
    marks = [
        Mark(
            row["id"],
            *chat.encode_example(tokenizer, row["prompt"], row["completion"], row.get("tools")).split(),
            row["label"] is True,
        )
        for row in rows
    ]
    chat.check_lengths([mark.length for mark in marks], max_length, section, source)
    return marks


def check_both(marks: Sequence[Mark], source: Path) -> None:
    """Raise DataError where all answers that train have one mark."""
    if len({mark.good for mark in marks}) == 1:
        raise DataError(
            f"{source}: all {len(marks)} answers are marked {'good' if marks[0].good else 'bad'}",
            fix="KTO needs both: add answers with the other mark, or give this split more rows "
            "(data.<dataset>.splits); on good ones alone, train SFT (`kind: answers`)",
        )


def weights(marks: Sequence[Mark], kto: Kto) -> tuple[float, float]:
    """The weights of the losses of good and of bad answers: where params leave them out, the rarer mark weighs more."""
    good = sum(mark.good for mark in marks)
    bad = len(marks) - good
    return kto.desirable_weight or max(1.0, bad / good), kto.undesirable_weight or max(1.0, good / bad)


def in_order(marks: Sequence[Mark], kto: Kto) -> list[Mark]:
    """``marks`` in the order in which they train: TRL's KTO takes that of the rows, in each epoch the same."""
    return batch_order.in_batches(marks, lambda mark: mark.length, kto.examples_a_step, seed=kto.seed)


def mismatched(marks: Sequence[Mark], batch_size: int) -> list[Tokens]:
    """For each answer that of the one before it in its batch, for the first of a batch that of the last.

    An answer that is alone in the last batch gets that of the batch before.
    """
    completions = []
    for begin in range(0, len(marks), batch_size):
        batch = marks[begin : begin + batch_size]
        first = batch[-1] if len(batch) > 1 else marks[begin - 1]
        completions += [mark.completion for mark in (first, *batch[:-1])]
    return completions


def make_trainer(policy: OpenModel, marks: Sequence[Mark], kto: Kto, profile: Profile, scratch: Path) -> MarkTrainer:
    """TRL's trainer, with the log-probabilities that the policy gives now in place of a reference policy."""
    attend_packed(policy.model)
    desirable, undesirable = weights(marks, kto)
    config = KTOConfig(
        **common(kto, profile, scratch),
        num_train_epochs=kto.epochs,
        loss_type=kto.loss_type,
        beta=kto.beta,
        desirable_weight=desirable,
        undesirable_weight=undesirable,
        max_length=None,  # checked by encode
        precompute_ref_log_probs=True,
        remove_unused_columns=False,
    )
    with preserve_trainable(policy.model), no_digest(kto_trainer):
        trainer = MarkTrainer(
            policy.model,
            args=config,
            train_dataset=Dataset.from_dict(columns(policy, in_order(marks, kto), kto)),
            processing_class=policy.tokenizer,
        )
    trainer.data_collator = BatchRecorder(trainer.data_collator, lambda feature: [feature["id"]])
    return trainer


def columns(policy: OpenModel, marks: Sequence[Mark], kto: Kto) -> dict[str, Sequence[object]]:
    """The columns that TRL's collator reads, with the log-probabilities, in nats, that ``policy`` gives."""
    values: dict[str, Sequence[object]] = {
        "id": [mark.id for mark in marks],
        "label": [mark.good for mark in marks],
        "prompt_ids": [mark.prompt for mark in marks],
        "completion_ids": [mark.completion for mark in marks],
        "ref_logps": log_probs(policy, marks, kto.batch_size),
    }
    if kto.loss_type == "kto":
        others = mismatched(marks, kto.batch_size)
        examples = [(mark.prompt, other) for mark, other in zip(marks, others, strict=True)]
        found = [each.log_prob for each in likelihoods(policy, examples, batch_size=kto.batch_size)]
        values |= {"KL_completion_ids": others, "ref_KL_logps": found}
    return values


def log_probs(policy: OpenModel, marks: Sequence[Mark], batch_size: int) -> list[float]:
    """The log-probability of every answer, in nats."""
    examples = [(mark.prompt, mark.completion) for mark in marks]
    return [each.log_prob for each in likelihoods(policy, examples, batch_size=batch_size)]


def validation(
    policy: OpenModel, marks: Sequence[Mark], kto: Kto
) -> tuple[Preference | None, Callable[[], Preference] | None]:
    """The preference for good over bad held-out answers at the start, and a function to measure it again.

    An answer's reward is beta times its log-ratio to the reference, which is the policy at the start. Without answers
    of both marks there is nothing to measure.
    """
    if len({mark.good for mark in marks}) < 2:
        return None, None
    before = log_probs(policy, marks, kto.batch_size)
    tokens = sum(len(mark.completion) for mark in marks if mark.good)

    def preference(now: list[float]) -> Preference:
        rewards = [kto.beta * (after - start) for after, start in zip(now, before, strict=True)]
        good, bad = (
            [reward for reward, mark in zip(rewards, marks, strict=True) if mark.good is side] for side in (True, False)
        )
        log_prob = sum(value for value, mark in zip(now, marks, strict=True) if mark.good)
        return measurements.separation(good, bad, surprise=-log_prob / tokens)

    return preference(before), lambda: preference(log_probs(policy, marks, kto.batch_size))


def largest_step(marks: Sequence[Mark], batch_size: int) -> LargestStep:
    """A batch of answers that are all as long as the longest."""
    return LargestStep(
        batch=batch_size,
        length=max(mark.length for mark in marks),
        completion=max(len(mark.completion) for mark in marks),
        shapes=2 * len({mark.length for mark in marks}),
        image_tokens=max(image_tokens(mark.prompt) for mark in marks),
    )


def batchable(marks: Sequence[Mark]) -> Batchable:
    """What batches are made of; each has an answer to compare another with."""
    return Batchable(
        lambda batch: largest_step(marks, batch), fmean(mark.length for mark in marks), len(marks), least=2
    )
