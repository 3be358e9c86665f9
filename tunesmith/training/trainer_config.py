"""What every trainer is told alike: where and in what precision to run, how often to log, what to leave alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import Trainer
from trl.trainer import utils

from tunesmith.core.errors import TrainingError
from tunesmith.models.device import Profile
from tunesmith.training.entries.common import Entry


def common(entry: Entry, profile: Profile, scratch: Path) -> dict[str, Any]:
    """Arguments of any of TRL's configs, for this machine. Raises TrainingError where several GPUs are visible."""
    if torch.cuda.device_count() > 1:
        raise TrainingError(
            f"{torch.cuda.device_count()} GPUs are visible, and a training takes one",
            fix="set CUDA_VISIBLE_DEVICES=0 (or another) in the environment of `dvc repro`",
        )
    score_trained_tokens_only()
    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": entry.batch_size,
        "learning_rate": entry.learning_rate,
        "warmup_steps": entry.warmup_share,
        "lr_scheduler_type": "linear",
        "use_cpu": profile.device == "cpu",
        "bf16": profile.bf16,
        "gradient_checkpointing": profile.gradient_checkpointing,
        "dataloader_pin_memory": profile.device == "cuda",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would log a loss that is no number as another
        "save_strategy": "no",
        "report_to": "none",
        "seed": entry.seed,
        "data_seed": entry.seed,
    }


@contextmanager
def one_precision(trainer: Trainer) -> Iterator[None]:
    """Compute all that a trainer forwards under its autocast, and let that alone choose the dtype of products.

    accelerate puts the call of the model under autocast; a prompt that is computed once before (`shared_prompts`),
    is outside it. Then peft need not cast every adapter's input to float32, only for autocast to cast it back: a
    fifth of the time of a step on a CPU, and a copy of the input for every layer.
    """
    mixed = trainer.accelerator.mixed_precision != "no"
    trainer.autocast_smart_context_manager = lambda *_, **__: trainer.accelerator.autocast()
    with disable_input_dtype_casting(trainer.model, active=mixed):
        yield


def score_trained_tokens_only() -> None:
    """Let TRL's fused output head project the tokens that have a label alone, on a CPU too.

    On a GPU it does. Elsewhere it projects every position, lest shapes that vary make a compiler compile anew (TRL
    1.16, `trl.trainer.utils.add_fused_lm_head`); a CPU compiles nothing, and a prompt costs as much as an answer: with
    a vocabulary of 49,152 the head is a fifth of SmolLM2-135M's arithmetic.
    """
    utils._use_triton = lambda device: True


class BatchRecorder:
    """A data collator that remembers which rows went into which batch, so that an error can name them."""

    def __init__(self, collator: Any, names: Callable[[dict[str, Any]], list[str]]) -> None:
        """names: the ids of the rows in a feature."""
        self.collator, self.names = collator, names
        self.batches: list[list[str]] = []

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        self.batches.append([name for feature in features for name in self.names(feature)])
        return self.collator(features)

    def rows_of(self, step: int) -> list[str]:
        """The rows of a step, counted from 1; a step is one batch."""
        return self.batches[step - 1] if step <= len(self.batches) else []
