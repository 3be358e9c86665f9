"""Supervised fine-tuning: rows to tokens, and TRL's trainer set up for this machine."""

from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import PositiveInt
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from tunesmith.models import chat
from tunesmith.models.device import Profile
from tunesmith.models.lengths import check_lengths
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import likelihoods
from tunesmith.models.packed_attention import use_row_by_row
from tunesmith.models.weights import Kind, kept_precise
from tunesmith.training.trainer_config import Named, Schedule, common


class Sft(Schedule):
    """Packed supervised fine-tuning with the loss on what the assistant says. batch_size: packed sequences a step."""

    epochs: PositiveInt
    turns: chat.Turns
    """Which of the assistant's turns are trained: ``completion``, or ``all``, those within the prompt too."""
    max_length: PositiveInt
    """Tokens in a packed sequence."""


Examples = dict[str, chat.Example]
"""By row id."""


def encode(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], sft: Sft, source: Path) -> Examples:
    """Rows as tokens. Raises DataError that counts the rows longer than ``max_length``: none is cut or dropped."""
    examples = {
        row["id"]: chat.encode_example(tokenizer, row["prompt"], row["completion"], turns=sft.turns) for row in rows
    }
    check_lengths([len(example.input_ids) for example in examples.values()], sft.max_length, "sft", source)
    return examples


def make_trainer(
    policy: OpenModel, examples: Examples, sft: Sft, kind: Kind, profile: Profile, scratch: Path
) -> SFTTrainer:
    """TRL's trainer over packed examples.

    Packing is best-fit: rows are put together, never cut, and attend to nothing outside themselves (their position
    ids restart, from which the attention mask is built).
    """
    config = SFTConfig(
        **common(sft, kind, profile, scratch),
        num_train_epochs=sft.epochs,
        max_length=sft.max_length,
        packing=True,
        packing_strategy="bfd",
        completion_only_loss=True,
    )
    columns = {
        "input_ids": [example.input_ids for example in examples.values()],
        "completion_mask": [example.completion_mask for example in examples.values()],
    }
    if profile.device == "cpu":
        use_row_by_row(policy.model)
    with kept_precise(policy.model):
        trainer = SFTTrainer(
            policy.model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=policy.tokenizer
        )
    ids = {tuple(example.input_ids): name for name, example in examples.items()}
    trainer.data_collator = Named(trainer.data_collator, lambda packed: _unpacked(packed, ids))
    return trainer


def ends_turn(policy: OpenModel, examples: Iterable[chat.Example]) -> list[bool]:
    """Whether, after each completion, the end of turn is the likeliest token."""
    given = [example.split() for example in examples]
    return [likelihood.ends for likelihood in likelihoods(policy, given, batch_size=1)]


def _unpacked(packed: dict[str, Any], ids: dict[tuple[int, ...], str]) -> list[str]:
    """The ids of the rows in a packed sequence."""
    begins = [0, *accumulate(packed["seq_lengths"])]
    return [ids[tuple(packed["input_ids"][begin:end])] for begin, end in pairwise(begins)]
