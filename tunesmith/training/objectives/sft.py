"""Supervised fine-tuning: rows become tokens, and TRL's trainer packs them."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer, pack_dataset

from tunesmith.core.errors import ResourceError
from tunesmith.core.ready_rows import Row
from tunesmith.models import chat, collectives
from tunesmith.models.attention.packed_attention import attend_packed, packed, packs_exactly
from tunesmith.models.device import Profile
from tunesmith.models.float8 import use_float8
from tunesmith.models.images.tokens import image_tokens
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import likelihoods
from tunesmith.models.weights import preserve_trainable
from tunesmith.training.entries.sft import Sft
from tunesmith.training.fit import Batchable
from tunesmith.training.measurements import RightAnswers
from tunesmith.training.spec import LargestStep
from tunesmith.training.trainer_config import BatchRecorder, common

PACKING = "bfd"
"""TRL's name of best-fit packing."""
Examples = dict[str, chat.Example]
"""Tokens of rows, by row id; of a row that makes several examples, those of earlier turns by "<row id>#<number>"."""


def encode(tokenizer: PreTrainedTokenizerBase, rows: list[Row], sft: Sft, section: str, source: Path) -> Examples:
    """Rows as tokens. Raises DataError that counts rows longer than ``max_length``: no row is truncated or dropped."""
    encoded = {
        row["id"]: chat.encode_examples(tokenizer, row["prompt"], row["completion"], row.get("tools"), turns=sft.turns)
        for row in rows
    }
    lengths = [max(len(example.input_ids) for example in examples) for examples in encoded.values()]
    chat.check_lengths(lengths, sft.max_length, section, source)
    return {
        f"{row}#{number}" if number else row: example
        for row, examples in encoded.items()
        for number, example in enumerate(reversed(examples))
    }


def tokens(rows: list[Row], examples: Examples, sft: Sft) -> list[int]:
    """The tokens of each row's examples, over all epochs."""
    lengths = Counter[str]()
    for key, example in examples.items():
        lengths[key.split("#")[0]] += len(example.input_ids)
    return [sft.epochs * lengths[row["id"]] for row in rows]


def largest_step(examples: Examples, sft: Sft, batch_size: int) -> LargestStep:
    """A batch of full sequences, in which the share of trained tokens is that of the examples.

    Packed batches differ in their number of tokens.
    """
    trained = sum(sum(example.completion_mask) for example in examples.values())
    total = sum(len(example.input_ids) for example in examples.values())
    size = batch_size * sft.max_length
    shapes = min(size, math.ceil(sft.epochs * total / size))
    labelled = round(trained / total * size)
    seen = [image_tokens(example.input_ids) for example in examples.values()]
    return LargestStep(
        batch=batch_size,
        length=sft.max_length,
        labelled=labelled,
        shapes=shapes,
        image_tokens=max(*seen, round(sum(seen) / total * sft.max_length)),
    )


def batchable(examples: Examples, sft: Sft, sequences: int) -> Batchable:
    """What batches are made of. sequences: the number that an epoch has."""
    tokens = sum(len(example.input_ids) for example in examples.values()) / sequences
    return Batchable(lambda batch: largest_step(examples, sft, batch), tokens, sequences)


def packs(policy: OpenModel, examples: Examples) -> bool:
    """Whether the model keeps packed rows apart: the two longest examples get the logits that each gets alone."""
    attend_packed(policy.model)
    longest = sorted([example.input_ids for example in examples.values()], key=len)[-2:]
    return collectives.of_first(packs_exactly(policy.model, packed([longest[0], longest[-1]]), longest[-1]))


def sequences(examples: Examples, sft: Sft, *, packing: bool) -> int:
    """The number of sequences that an epoch has: packed ones, or examples."""
    if not packing:
        return len(examples)
    rows = Dataset.from_dict({"input_ids": [example.input_ids for example in examples.values()]})
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return len(pack_dataset(rows, sft.max_length, PACKING))
    finally:
        if shown:
            enable_progress_bars()


def make_trainer(policy: OpenModel, examples: Examples, sft: Sft, profile: Profile, scratch: Path) -> SFTTrainer:
    """TRL's trainer over packed examples, or over padded ones where the model cannot keep packed rows apart.

    Packing is best-fit: rows are put together, never cut, and attend only to themselves (`models.attention`).
    Raises ResourceError for `float8` or `compile` on a machine that has nothing of them.
    """
    packing = packs(policy, examples)
    if not packing:
        print("  not packed: in this model, rows that are packed together change each other")
    trainer = _trainer(policy, examples, sft, profile, scratch, packing=packing)
    if sft.compile and profile.device == "cpu":
        raise ResourceError("compile is for a GPU: on a CPU it takes minutes, and gains none back", fix="leave it out")
    if sft.float8:
        use_float8(policy.model, profile)
    ids = {tuple(example.input_ids): row for row, example in examples.items()}
    trainer.data_collator = BatchRecorder(trainer.data_collator, lambda feature: _rows(feature, ids))
    return trainer


def _trainer(
    policy: OpenModel, examples: Examples, sft: Sft, profile: Profile, scratch: Path, *, packing: bool
) -> SFTTrainer:
    config = SFTConfig(
        **common(sft, profile, scratch),
        num_train_epochs=sft.epochs,
        max_length=sft.max_length,
        packing=packing,
        packing_strategy=PACKING,
        completion_only_loss=True,
        neftune_noise_alpha=sft.neftune,
        torch_compile=sft.compile,
    )
    columns = {
        "input_ids": [example.input_ids for example in examples.values()],
        "completion_mask": [example.completion_mask for example in examples.values()],
    }
    with preserve_trainable(policy.model):
        trainer = SFTTrainer(
            policy.model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=policy.tokenizer
        )
    # TRL's output head weighs tokens over all batches of a step, also where a class says that its own does not, as that
    # of Qwen2.5-VL: otherwise a step would be the mean of its batches' means.
    trainer.model_accepts_loss_kwargs = True
    return trainer


def right_answers(policy: OpenModel, examples: Iterable[chat.Example]) -> RightAnswers:
    """Whether the end of turn is the likeliest token after each completion, and how likely the completions are."""
    answers = [example.split() for example in examples]
    found = likelihoods(policy, answers, batch_size=1)
    tokens = sum(len(completion) for _, completion in answers)
    return RightAnswers([each.ends for each in found], -sum(each.log_prob for each in found) / tokens)


def _rows(feature: dict[str, Any], ids: dict[tuple[int, ...], str]) -> list[str]:
    """The ids of the rows in a packed sequence, or that of one row."""
    tokens = feature["input_ids"]
    begins = [0, *accumulate(feature.get("seq_lengths", [len(tokens)]))]
    return [ids[tuple(tokens[begin:end])] for begin, end in pairwise(begins)]
