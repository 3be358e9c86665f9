"""Share of the machine's own rate of multiplication that a training step reaches on a CPU.

    python -m benchmarks.arithmetic [--repeats 5] [--rows 48]

Needs models/base (`dvc repro fetch_base`). A step is that of `train_sft`: LoRA, two sequences of up to 512 tokens of
packed rows, forward and backward pass, clipping and optimizer. Its operations are those of the matrix products that it
runs, two for each multiplication and addition, counted by torch's FlopCounterMode: of the frozen weights and the
adapters, forward and backward, and of the output head for the trained tokens. Attention, norms and the optimizer count
as time alone. The machine's rate is that of products of the batch's tokens with the weights of one layer's MLP, in the
same dtype, measured after every step.

Shares are given in wall-clock and in CPU time, which other processes on the machine change less; OMP_NUM_THREADS=1
makes the latter independent of threads that wait for one another.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.train_vs_trl import Clock, rows, sft_trainer

PRODUCTS = 20
SEED = 1


def main() -> None:
    import torch

    from tunesmith.models import device
    from tunesmith.training import trainer_config

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=48, help="rows, of which the first batch is trained on")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    profile = device.detect()
    device.keep_freed_memory()
    trainer_config.patch_trl()
    for dtype in dict.fromkeys((profile.dtype, torch.float32)):
        measure(replace(profile, dtype=dtype), options.rows, options.repeats)


def measure(profile: Any, count: int, repeats: int) -> None:
    """Print the rates of steps and of products in a profile's dtype."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tunesmith.training import trainer_config

    with tempfile.TemporaryDirectory() as scratch:
        trainer: Any = sft_trainer("ours", SEED, rows("sft", count, SEED), profile, Path(scratch))[0]
    batch = next(iter(trainer.get_train_dataloader()))
    tokens, labelled = int(batch["input_ids"].numel()), int((batch["labels"] != -100).sum())
    config = trainer.model.config
    inputs = torch.randn(tokens, config.hidden_size, dtype=profile.dtype)
    weight = torch.randn(config.intermediate_size, config.hidden_size, dtype=profile.dtype)

    def products() -> None:
        for _ in range(PRODUCTS):
            inputs @ weight.T

    with trainer_config.one_precision(trainer):
        step = stepper(trainer, batch)
        with FlopCounterMode(display=False) as counter:  # also the first step, which makes the optimizer's state
            step()
        products()
        steps, alone = [], []
        for _ in range(repeats):
            steps.append(timed(step, counter.get_total_flops()))
            alone.append(timed(products, PRODUCTS * 2 * tokens * inputs.shape[1] * weight.shape[0]))
    print(
        f"{str(profile.dtype).removeprefix('torch.')}: {tokens} tokens, {labelled} trained, "
        f"{counter.get_total_flops() / 1e9:.0f} GFLOP a step; {torch.get_num_threads()} threads, medians of {repeats}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for clock, name in enumerate(("wall clock", "CPU time")):
        shares = sorted(a[clock] / b[clock] for a, b in zip(steps, alone, strict=True))
        of_steps, of_products = (statistics.median(rate[clock] for rate in rates) / 1e9 for rates in (steps, alone))
        print(
            f"  by {name:10}: {of_steps:4.0f} of {of_products:4.0f} GFLOP/s, "
            f"share {statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f})"
        )


def stepper(trainer: Any, batch: Any) -> Callable[[], None]:
    """A training step of ``trainer`` on one batch."""
    import torch

    from tunesmith.models import weights

    optimizer = trainer.create_optimizer()
    trained = weights.trained(trainer.model).values()

    def step() -> None:
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, trainer.args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(work: Callable[[], None], operations: int) -> tuple[float, float]:
    """Operations a second of wall-clock time, and of CPU time."""
    clock = Clock()
    work()
    seconds, cpu = clock.read()
    return operations / seconds, operations / cpu


if __name__ == "__main__":
    main()
