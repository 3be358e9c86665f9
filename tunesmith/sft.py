"""Supervised fine-tuning: rows to tokens, and TRL's trainer set up for this machine."""

from pathlib import Path
from typing import Annotated, Any

from datasets import Dataset
from peft import PeftModel
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from tunesmith import chat
from tunesmith.device import Profile
from tunesmith.errors import DataError
from tunesmith.params import Section


class Sft(Section):
    """Packed supervised fine-tuning with the loss on completions only."""

    dataset: str
    epochs: PositiveInt
    learning_rate: PositiveFloat
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps in which the learning rate rises to its peak; it falls linearly after."""
    max_length: PositiveInt
    """Tokens in a packed sequence."""
    batch_size: PositiveInt
    """Packed sequences a step."""
    seed: NonNegativeInt
    probes: NonNegativeInt


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], max_length: int, source: Path
) -> list[chat.Example]:
    """Rows as tokens. Raises DataError that counts the rows longer than ``max_length``: none is cut or dropped."""
    examples = [chat.encode_example(tokenizer, row["prompt"], row["completion"]) for row in rows]
    long = [len(example.input_ids) for example in examples if len(example.input_ids) > max_length]
    if long:
        raise DataError(
            f"{source}: {len(long)} of {len(rows)} rows are longer than sft.max_length ({max_length} tokens)",
            fix=f"set sft.max_length in params.yaml to at least {max(long)}, the longest of them, or the dataset's own "
            f"max_length to {max_length}, which sets those rows aside",
        )
    return examples


def make_trainer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[chat.Example],
    sft: Sft,
    profile: Profile,
    scratch: Path,
) -> SFTTrainer:
    """TRL's trainer over packed examples.

    Packing is best-fit: rows are put together, never cut, and attend to nothing outside themselves (their position
    ids restart, from which the attention mask is built).
    """
    config = SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=sft.epochs,
        per_device_train_batch_size=sft.batch_size,
        learning_rate=sft.learning_rate,
        warmup_steps=sft.warmup_share,
        lr_scheduler_type="linear",
        max_length=sft.max_length,
        packing=True,
        packing_strategy="bfd",
        completion_only_loss=True,
        use_cpu=profile.device == "cpu",
        bf16=profile.bf16,
        gradient_checkpointing=profile.gradient_checkpointing,
        dataloader_pin_memory=profile.device == "cuda",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=sft.seed,
        data_seed=sft.seed,
    )
    columns = {
        "input_ids": [example.input_ids for example in examples],
        "completion_mask": [example.completion_mask for example in examples],
    }
    return SFTTrainer(model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=tokenizer)
