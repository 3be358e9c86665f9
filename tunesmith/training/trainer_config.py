"""Settings of every trainer: its arguments for this machine, its precision, and a record of its batches."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import Trainer
from trl.trainer import utils

from tunesmith.core import processes
from tunesmith.models import collectives
from tunesmith.models.device import Profile
from tunesmith.training import optimizers
from tunesmith.training.entries.common import Batched, Entry

SCHEDULERS = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
    "wsd": "warmup_stable_decay",
}
"""The names that transformers gives the schedules of the learning rate."""

UNLABELLED = -100
"""The label of a token that trains nothing."""
HEAD_TILE = 4096
"""Entries of the vocabulary in a tile of the output head on a CPU; TRL takes 32,768."""


def common(entry: Entry, profile: Profile, scratch: Path) -> dict[str, Any]:
    """Arguments of any of TRL's configs, for this machine."""
    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": entry.batch_size // processes.count(),
        "gradient_accumulation_steps": entry.gradient_accumulation if isinstance(entry, Batched) else 1,
        "optim": optimizers.argument(entry.optimizer, profile.device),
        "learning_rate": entry.learning_rate,
        "warmup_steps": entry.warmup_share,
        "lr_scheduler_type": SCHEDULERS[entry.scheduler],
        "weight_decay": entry.weight_decay,
        "max_grad_norm": entry.max_grad_norm,
        "use_cpu": profile.device == "cpu",
        "bf16": profile.bf16,
        "gradient_checkpointing": profile.gradient_checkpointing,
        "dataloader_pin_memory": profile.device == "cuda",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # True would log a NaN loss as the running average
        **_kernels(profile),
        "save_strategy": "no",
        "report_to": "none",
        "seed": entry.seed,
        "data_seed": entry.seed,
    }


def _kernels(profile: Profile) -> dict[str, Any]:
    """Arguments for Liger's kernels of norms, rotations and gates, on a GPU where they are installed.

    Its fused output head stays off: TRL's own (`trl.trainer.utils.add_fused_lm_head`) does the same.
    """
    if profile.device != "cuda" or importlib.util.find_spec("liger_kernel") is None:
        return {}
    return {"use_liger_kernel": True, "liger_kernel_config": {"fused_linear_cross_entropy": False}}


@contextmanager
def one_precision(trainer: Trainer) -> Iterator[None]:
    """Run a trainer's whole loss under its autocast, which alone chooses the dtype of products.

    accelerate puts only the call of the model under autocast, and not the prompt that is computed before
    (`models.attention`). With all under it, peft need not cast every adapter's input to float32 for autocast to cast it
    back: a fifth of the time of a step on a CPU, and a copy of the input for every layer.
    """
    mixed = trainer.accelerator.mixed_precision != "no"
    trainer.autocast_smart_context_manager = lambda *_, **__: trainer.accelerator.autocast()
    with disable_input_dtype_casting(trainer.model, active=mixed):
        yield


def patch_trl() -> None:
    """Fit TRL's fused output head to a CPU, in this whole process (TRL 1.16, `trl.trainer.utils.add_fused_lm_head`).

    It projects only the tokens that have a label, as on a GPU. Elsewhere it projects every position, so that shapes
    stay the same for a compiler; a CPU compiles nothing, and a prompt costs as much as an answer: with a vocabulary of
    49,152 the head is a fifth of SmolLM2-135M's arithmetic. And its tiles span fewer entries of the vocabulary: the
    backward pass holds seven of them in float32, 0.4 GB for 462 tokens in TRL's size and 0.05 GB in this one, and a
    step takes 2% less time. Sums over tiles are in float32, whatever their size.
    """
    utils._use_triton = lambda device: True
    utils._CHUNKED_LOGPROB_CHUNK_SIZE = HEAD_TILE


@contextmanager
def no_digest(module: Any) -> Iterator[None]:
    """Keep a trainer of TRL from reading all weights, whole, to name a cache of log-probabilities that is not made.

    module: the trainer's (TRL 1.16, `hash_module` of dpo_trainer and kto_trainer).
    """
    made = module.hash_module
    module.hash_module = lambda model: ""
    try:
        yield
    finally:
        module.hash_module = made


@dataclass(frozen=True)
class Schedule:
    """The steps of a training on given rows. accumulation: batches a step; the last of an epoch takes those that are
    left. rows: in an epoch. batch: rows that go through the model at once, over all processes.
    """

    rows: int
    batch: int
    accumulation: int
    epochs: int

    @property
    def batches(self) -> int:
        """The number of batches in an epoch."""
        return math.ceil(self.rows / self.batch)

    @property
    def steps(self) -> int:
        return self.epochs * math.ceil(self.batches / self.accumulation)

    def batches_until(self, step: int) -> int:
        """The number of batches in the steps up to one, counted from 1, itself included."""
        epochs, steps = divmod(step, math.ceil(self.batches / self.accumulation))
        return epochs * self.batches + min(steps * self.accumulation, self.batches)

    def own_rows(self, number: int) -> int:
        """The rows of a batch, counted from 0, that this process has; the others of its share are a repetition.

        accelerate fills the last batch of an epoch with rows of its beginning, so that processes have equal shares.
        """
        rows = self.rows - number % self.batches * self.batch
        share = self.batch // processes.count()
        return min(max(rows - processes.rank() * share, 0), share)


def schedule_of(trainer: Trainer) -> Schedule:
    """The steps of a trainer that goes over its data set in epochs."""
    args = trainer.args
    batch = args.per_device_train_batch_size * processes.count()
    return Schedule(
        len(trainer.train_dataset), batch, args.gradient_accumulation_steps, math.ceil(args.num_train_epochs)
    )


def set_decay(trainer: Trainer, entry: Entry) -> None:
    """Tell the scheduler wsd its number of last steps, in which the learning rate falls."""
    if entry.scheduler == "wsd":
        steps = trainer.args.max_steps if trainer.args.max_steps > 0 else schedule_of(trainer).steps
        trainer.args.lr_scheduler_kwargs = {"num_decay_steps": max(1, round(entry.decay_share * steps))}


SHARE = "share"
"""The input of a batch with the weight of its loss."""
PART = "part"
"""The input of a batch with `WeighedBatches.part`."""
ROWS = "rows"
"""The input of a batch with the number of its rows that count; 0 where it repeats a row for a process without any."""


class WeighedBatches:
    """Mixin for trainers whose loss is a mean over the examples of a batch: a step's is the mean over all of its own.

    transformers takes the mean of the batches' losses, in which an example of a shorter batch would weigh more, and DDP
    the mean of the processes'.
    """

    part: float = 1.0
    """The weight of a batch's means among those of the other processes' batches."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        trainer: Any = super()
        batches, items = trainer.get_batch_samples(epoch_iterator, num_batches, device)
        sizes = [batch.pop(ROWS) for batch in batches]
        total = collectives.total(sum(sizes))
        for batch, size in zip(batches, sizes, strict=True):
            batch[SHARE] = size * len(batches) * processes.count() / total
        for batch, *sizes_of_all in zip(batches, sizes, *collectives.gathered(sizes), strict=True):
            batch[PART] = sizes_of_all[0] * processes.count() / sum(sizes_of_all[1:])
        return batches, items

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **settings: Any) -> Any:
        share, self.part = inputs.pop(SHARE, 1.0), inputs.pop(PART, 1.0)
        trainer: Any = super()
        loss = trainer.compute_loss(model, inputs, return_outputs=return_outputs, **settings)
        return (share * loss[0], *loss[1:]) if return_outputs else share * loss


def gather_unequal_shares(trainer: Trainer) -> None:
    """Let a trainer gather numbers of rows of which processes have unequally many, as of the last batch of an epoch.

    accelerate would drop as many of them as rows fill that batch up, which are not there (`BatchRecorder`).
    """
    accelerator = trainer.accelerator
    gather = accelerator.gather

    def gathered(values: Any) -> Any:
        if not isinstance(values, torch.Tensor) or not values.ndim:
            return gather(values)
        sizes = gather(torch.tensor([len(values)], device=values.device)).tolist()
        shares = gather(accelerator.pad_across_processes(values)).split(max(sizes))
        return torch.cat([share[:size] for share, size in zip(shares, sizes, strict=True)])

    accelerator.gather = accelerator.gather_for_metrics = gathered


class BatchRecorder:
    """A data collator that records which rows went into which batch, so that an error can name them.

    Of the rows that only fill up the batches of several processes it keeps none, or one where there is no other: its
    tokens then have no labels, and `WeighedBatches` gives it no weight.
    """

    def __init__(self, collator: Any, ids: Callable[[dict[str, Any]], list[str]]) -> None:
        """ids: the ids of the rows in a feature."""
        self.collator, self.ids = collator, ids
        self.batches: list[list[str]] = []
        self.schedule = Schedule(1, 1, 1, 1)
        self.skipped = 0
        """Steps that an earlier process made, whose batches are not made again."""

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        number = self.schedule.batches_until(self.skipped) + len(self.batches)
        rows = len(features) if processes.count() == 1 else self.schedule.own_rows(number)
        self.batches.append([row for feature in features[:rows] for row in self.ids(feature)])
        batch = self.collator(features[: max(rows, 1)])
        if "labels" in batch:
            if not rows:
                batch["labels"] = torch.full_like(batch["labels"], UNLABELLED)
        else:
            batch[ROWS] = rows
        return batch

    def rows_of(self, step: int) -> list[str]:
        """The ids of the rows of a step, counted from 1, that this process had."""
        return self.trained(step)[len(self.trained(step - 1)) :]

    def trained(self, step: int) -> list[str]:
        """The ids of the rows of this process's steps up to one."""
        made = self.schedule.batches_until(max(step, self.skipped)) - self.schedule.batches_until(self.skipped)
        return [row for batch in self.batches[:made] for row in batch]


def record_batches(trainer: Trainer) -> None:
    """Tell the recorder of a trainer that has one which batches there will be, in this process and in others."""
    if isinstance(trainer.data_collator, BatchRecorder):
        trainer.data_collator.schedule = schedule_of(trainer)
        if processes.count() > 1:
            gather_unequal_shares(trainer)
