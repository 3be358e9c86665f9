"""Steps of a trainer, timed and counted: the same for our trainers and TRL's."""

import statistics
import time
from typing import Any

import torch
from transformers import TrainerCallback

WARM = 2
"""First steps, which compile kernels and grow the allocator, and are left out."""


def now() -> float:
    """The time when the device is done with all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def forget_peak() -> None:
    """Measure peaks of memory on the device from now on, without what was only needed to build."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class Clock(TrainerCallback):
    """The end of every step, and the lengths of the rows of every batch, padding not counted."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.batches: list[list[int]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(now())

    def watch(self, trainer: Any) -> None:
        """Time and count the steps of ``trainer``, whose batches must come from its collator."""
        collator = trainer.data_collator

        def counting(features: list[dict[str, Any]]) -> Any:
            batch = collator(features)
            self.batches.append(lengths(batch))
            return batch

        trainer.data_collator = counting
        trainer.add_callback(self)

    def steps(self, warm: int = WARM) -> list[tuple[float, list[int]]]:
        """Seconds and row lengths of each step after the first ``warm``; a step is one batch."""
        first = max(warm, 1)
        seconds = [end - begin for begin, end in zip(self.ends, self.ends[1:], strict=False)]
        return list(zip(seconds[first - 1 :], self.batches[first:], strict=False))


def lengths(batch: Any) -> list[int]:
    """Tokens of every row of a batch: padded rows by their mask, packed ones by where their positions restart."""
    if "attention_mask" in batch:
        return [int(count) for count in batch["attention_mask"].sum(1)]
    if "position_ids" in batch:
        positions = batch["position_ids"].flatten().tolist()
        begins = [place for place, position in enumerate(positions) if position == 0]
        return [end - begin for begin, end in zip(begins, [*begins[1:], len(positions)], strict=True)]
    return [row.numel() for row in batch["input_ids"]]


def summary(steps: list[tuple[float, list[int]]]) -> dict[str, Any]:
    """Medians over steps; the rates are of each step."""
    tokens = [sum(rows) for _, rows in steps]
    return {
        "steps": len(steps),
        "step_seconds": statistics.median(seconds for seconds, _ in steps),
        "slowest_step_seconds": max(seconds for seconds, _ in steps),
        "tokens_per_step": statistics.median(tokens),
        "tokens_per_second": statistics.median(
            count / seconds for count, (seconds, _) in zip(tokens, steps, strict=True)
        ),
    }
