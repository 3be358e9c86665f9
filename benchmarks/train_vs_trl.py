"""Training speed against TRL's defaults: the same rows in the same steps, side by side in one run.

    python -m benchmarks.train_vs_trl sft [--repeats 3] [--rows 48]
    python -m benchmarks.train_vs_trl dpo [--repeats 3] [--rows 48]

Needs models/base (`dvc repro fetch_base`). Every side trains LoRA on it in a process of its own, alternating:

trl       TRL's trainer with its defaults (bfloat16 autocast, gradient checkpointing, padded batches; DPO forwards its
          reference in every step), on the base in the dtype of this machine's profile, like ours
trl fp32  the same in float32 throughout and without checkpointing
ours      what `train_sft` or `reference` and `train_dpo` run; for DPO the reference log-probabilities are computed
          once before, and their time is printed separately

The rows' lengths are log-normal, like those of chats. TRL gets our batches, so that each step sees the same rows.
Tokens are counted without padding. Every repeat has its own seed: of its rows, their order and the adapter's initial
values, the same for all sides. So sides are compared within a repeat: times by their ratio, in wall-clock and in CPU
time (which other processes on the machine change less), and the loss on held-out rows, measured in float32 for
all, by its difference, with a confidence interval of the mean. What differs between the sides is rounding alone.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

SIDES = ("trl", "trl fp32", "ours")
BASE = Path("models/base")
OBJECTIVES = ("sft", "dpo")
HELD_OUT = 16
CONFIDENCE = 0.95
LENGTHS = (1.2, 0.8)
"""Mean and deviation of the logarithm of the number of sums in a row."""
MAX_LENGTH = 512


def rows(objective: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Conversations about few or many sums; for DPO, each with a wrong answer beside the right one.

    The last ones are held out, and are the same with every seed.
    """
    examples = []
    for number in range(count + HELD_OUT):
        if number in (0, count):
            noise = random.Random(seed if number == 0 else 0)
        long = min(24, max(1, round(noise.lognormvariate(*LENGTHS))))
        sums = [(noise.randrange(100), noise.randrange(100)) for _ in range(long)]
        question = "Add, and answer one line each: " + "; ".join(f"{a} + {b}" for a, b in sums)
        right = "\n".join(f"{a} + {b} = {a + b}" for a, b in sums)
        wrong = "\n".join(f"{a} + {b} = {a + b + noise.choice((-10, -1, 1, 10))}" for a, b in sums)
        say = [[{"role": "assistant", "content": text}] for text in (right, wrong)]
        examples.append(
            {
                "id": str(number),
                "prompt": [{"role": "user", "content": question}],
                **({"completion": say[0]} if objective == "sft" else {"chosen": say[0], "rejected": say[1]}),
            }
        )
    return examples


def measure(objective: str, side: str, count: int, seed: int) -> dict[str, Any]:
    """Train one side in this process: {seconds, cpu, reference, tokens, steps, losses, held_out, load}.

    seconds and cpu: wall-clock and CPU time, that of DPO's reference included. reference: wall-clock seconds that it
    took, where it is computed once before.
    """
    from tunesmith.models import device
    from tunesmith.training import trainer_config

    profile = device.detect()
    if profile.device == "cpu" and side == "ours":
        device.keep_freed_memory()
        trainer_config.patch_trl()
    examples = rows(objective, count, seed)
    with tempfile.TemporaryDirectory() as scratch:
        sides = {"sft": sft_trainer, "dpo": dpo_trainer}
        trainer, tokens, held_out, prepared = sides[objective](side, seed, examples, profile, Path(scratch))
        clock = Clock()
        with trainer_config.one_precision(trainer) if side == "ours" else nullcontext():
            trainer.train()
        trained = clock.read()
    seconds, cpu = (sum(times) for times in zip(trained, prepared, strict=True))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": seconds,
        "cpu": cpu,
        "reference": prepared[0],
        "tokens": tokens,
        "steps": len(losses),
        "losses": losses,
        "held_out": held_out(),
        "load": os.getloadavg()[0],
    }


class Clock:
    """Wall-clock and CPU seconds of this process, since the clock was made."""

    def __init__(self) -> None:
        self.began = time.monotonic(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self.began[0], time.process_time() - self.began[1]


def policy_of(side: str, seed: int, profile: Any) -> Any:
    """The base with a fresh adapter, the same for every side."""
    import torch

    from tunesmith.models import device, loading
    from tunesmith.models.settings import Lora

    if side == "trl fp32":
        profile = replace(profile, dtype=torch.float32)
    device.set_seed(seed)
    return loading.open_policy(BASE, BASE, profile, "lora", Lora(rank=16, alpha=32, dropout=0.0))


def in_float32(policy: Any, trainer: Any) -> Any:
    """The model of a trainer, to be measured in float32, also where accelerate has put it under autocast."""
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).float()
    return replace(policy, model=model, profile=replace(policy.profile, dtype=torch.float32))


def trl_settings(side: str, seed: int, scratch: Path) -> dict[str, Any]:
    """TRL's defaults, except what makes both sides train the same: seed, rate, one epoch, every step logged."""
    import torch

    plain = {} if side == "trl" else {"bf16": False, "gradient_checkpointing": False}
    cpu = {} if torch.cuda.is_available() else {"use_cpu": True}  # TRL asks for it
    return {
        "output_dir": str(scratch),
        "learning_rate": 5e-4,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "seed": seed,
        "data_seed": seed,
        **plain,
        **cpu,
    }


def in_batches(trainer: Any, batches: list[list[int]]) -> Any:
    """``trainer``, with these rows in each of its steps."""

    def get_train_dataloader() -> Any:
        from torch.utils.data import DataLoader

        dataset = trainer._remove_unused_columns(trainer.train_dataset)
        loader = DataLoader(dataset, batch_sampler=batches, collate_fn=trainer.data_collator)
        return trainer.accelerator.prepare(loader)

    trainer.get_train_dataloader = get_train_dataloader
    return trainer


def sft_trainer(side: str, seed: int, examples: list[dict[str, Any]], profile: Any, scratch: Path) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from tunesmith.models.log_probs import likelihoods
    from tunesmith.training.entries.sft import Sft
    from tunesmith.training.objectives import sft

    policy = policy_of("ours", seed, profile)
    settings = Sft(dataset="rows", learning_rate=5e-4, max_length=MAX_LENGTH, batch_size=2, seed=seed, probes=0)
    encoded = sft.encode(policy.tokenizer, examples, settings, "sft.benchmark", Path("rows"))
    unseen = [example.split() for example in list(encoded.values())[-HELD_OUT:]]
    train = dict(list(encoded.items())[:-HELD_OUT])
    trainer = sft.make_trainer(policy, train, settings, profile, scratch)
    if side != "ours":
        for _ in trainer.get_train_dataloader():  # records which rows go together
            pass
        batches = [[int(name) for name in batch] for batch in trainer.data_collator.batches]
        config = SFTConfig(**trl_settings(side, seed, scratch), completion_only_loss=True)
        columns = {
            "input_ids": [example.input_ids for example in train.values()],
            "completion_mask": [example.completion_mask for example in train.values()],
        }
        dataset = Dataset.from_dict(columns)
        theirs = SFTTrainer(
            policy_of(side, seed, profile).model, args=config, train_dataset=dataset, processing_class=policy.tokenizer
        )
        trainer = in_batches(theirs, batches)

    def held_out() -> float:
        values = likelihoods(in_float32(policy, trainer), unseen, batch_size=8)
        return -sum(value.log_prob for value in values) / sum(len(completion) for _, completion in unseen)

    return trainer, sum(len(example.input_ids) for example in train.values()), held_out, (0.0, 0.0)


def dpo_trainer(side: str, seed: int, examples: list[dict[str, Any]], profile: Any, scratch: Path) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from tunesmith.core.ready_rows import Conversation
    from tunesmith.models import chat, preference_pairs
    from tunesmith.training.entries.dpo import Dpo
    from tunesmith.training.objectives import dpo

    policy = policy_of("ours", seed, profile)
    settings = Dpo(
        dataset="rows", start="base", learning_rate=5e-4, max_length=2 * MAX_LENGTH, batch_size=4, seed=seed, probes=0
    )
    pairs = preference_pairs.encode(policy.tokenizer, examples, settings.max_length, "dpo", Path("rows"))
    train, unseen = pairs[:-HELD_OUT], pairs[-HELD_OUT:]
    clock = Clock()
    values = preference_pairs.log_probs(policy, train, settings.batch_size)
    prepared = clock.read()
    reference = dpo.Reference(
        [{"id": pair.id, "chosen": a, "rejected": b} for pair, (a, b) in zip(train, values, strict=True)], Path("-")
    )
    trainer: Any = dpo.make_trainer(policy, train, reference, settings, profile, scratch)
    if side != "ours":
        for _ in trainer.get_train_dataloader():
            pass
        batches = [[int(name) for name in batch] for batch in trainer.data_collator.batches]
        texts = []
        for row in examples[:-HELD_OUT]:
            (before, chosen), (_, rejected) = (
                chat.render_examples(policy.tokenizer, [Conversation(row["prompt"], row[side_])])[0]
                for side_ in ("chosen", "rejected")
            )
            texts.append({"prompt": before, "chosen": chosen, "rejected": rejected})
        theirs = DPOTrainer(
            policy_of(side, seed, profile).model,
            args=DPOConfig(**trl_settings(side, seed, scratch), beta=settings.beta),
            train_dataset=Dataset.from_list(texts),
            processing_class=policy.tokenizer,
        )
        trainer = in_batches(theirs, batches)

    def held_out() -> float:
        tuned = in_float32(policy, trainer)
        now = preference_pairs.log_probs(tuned, unseen, settings.batch_size)
        with tuned.model.disable_adapter():
            before = preference_pairs.log_probs(tuned, unseen, settings.batch_size)
        margins = [settings.beta * (a - b - (c - d)) for (a, b), (c, d) in zip(now, before, strict=True)]
        return statistics.fmean(math.log1p(math.exp(-margin)) for margin in margins)

    return trainer, sum(pair.tokens for pair in train), held_out, prepared if side == "ours" else (0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("objective", choices=OBJECTIVES)
    parser.add_argument("--rows", type=int, default=48, help="rows, or pairs, to train on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help="of the first repeat")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.objective, options.side, options.rows, options.seed)))
        return
    repeats: list[dict[str, dict[str, Any]]] = []
    for seed in range(options.seed, options.seed + options.repeats):
        repeats.append({})
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.train_vs_trl", options.objective]
            command += ["--rows", str(options.rows), "--side", side, "--seed", str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            repeats[-1][side] = run = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{seed} {side:9} {run['seconds']:6.1f} s, CPU {run['cpu']:6.1f} s, load {run['load']:4.1f}, "
                f"last loss {run['losses'][-1]:.4f}, held-out loss {run['held_out']:.4f}",
                file=sys.stderr,
            )
    print_table(options.objective, repeats)


def print_table(objective: str, repeats: list[dict[str, dict[str, Any]]]) -> None:
    tokens, steps = (statistics.median(repeat["ours"][key] for repeat in repeats) for key in ("tokens", "steps"))
    print(f"{objective}: {tokens:.0f} tokens in {steps:.0f} steps, medians of {len(repeats)}")
    for side in SIDES:
        runs = [repeat[side] for repeat in repeats]
        seconds, cpu, held_out = (statistics.median(run[key] for run in runs) for key in ("seconds", "cpu", "held_out"))
        print(
            f"{side:9} {seconds:7.1f} s, CPU {cpu:7.1f} s, {ratios(repeats, side, 'seconds')} times as fast as trl, "
            f"by CPU time {ratios(repeats, side, 'cpu')}; held-out loss {held_out:.4f}"
        )
    if objective == "dpo":
        prepared = statistics.median(repeat["ours"]["reference"] for repeat in repeats)
        print(f"  of which the reference of ours, computed once before, {prepared:.1f} s")
    for side, other in itertools.combinations(reversed(SIDES), 2):
        apart = [repeat[side]["held_out"] - repeat[other]["held_out"] for repeat in repeats]
        mean, half = mean_and_half_width(apart)
        print(f"held-out loss of {side} less that of {other}: {mean:+.4f} ± {half:.4f} ({CONFIDENCE:.0%})")


def ratios(repeats: list[dict[str, dict[str, Any]]], side: str, key: str) -> str:
    """Median and range of how many times as fast as TRL a side is."""
    times = sorted(repeat["trl"][key] / repeat[side][key] for repeat in repeats)
    return f"{statistics.median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f})"


def mean_and_half_width(values: list[float]) -> tuple[float, float]:
    """The mean, and half of its confidence interval by Student's t."""
    from scipy.stats import t

    if len(values) < 2:
        return values[0], math.inf
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error


if __name__ == "__main__":
    main()
