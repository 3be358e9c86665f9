"""Training speed against TRL's defaults: the same rows in the same steps, side by side in one run.

    python -m benchmarks.train_vs_trl sft [--repeats 3] [--rows 48]
    python -m benchmarks.train_vs_trl dpo [--repeats 3] [--rows 48]

Needs models/base (`dvc repro fetch_base`). Every side trains LoRA on it in a process of its own, alternating:

trl       TRL's trainer with its defaults (bfloat16 autocast, gradient checkpointing, padded batches; DPO forwards its
          reference in every step)
trl fp32  the same in float32 without checkpointing, which is faster on a CPU without bfloat16 units
ours      what `train_sft` or `reference` and `train_dpo` run; for DPO the reference log-probabilities are computed
          once before, and their time is printed separately

The rows' lengths are log-normal, like those of chats. TRL gets our batches, so that each step sees the same rows.
Tokens are counted without padding. Losses are those of the steps, and of held-out rows after training, by one
function.
"""

import argparse
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
HELD_OUT = 8
LENGTHS = (1.2, 0.8)
"""Mean and deviation of the logarithm of the number of sums in a row."""
MAX_LENGTH = 512
SEED = 1


def rows(objective: str, count: int) -> list[dict[str, Any]]:
    """Conversations about few or many sums; for DPO, each with a wrong answer beside the right one."""
    noise = random.Random(SEED)
    examples = []
    for number in range(count + HELD_OUT):
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


def measure(objective: str, side: str, count: int) -> dict[str, Any]:
    """Train one side in this process: {seconds, prepared, tokens, steps, losses, held_out, load}."""
    from transformers import set_seed

    from tunesmith.models import device, loading
    from tunesmith.models.settings import Lora
    from tunesmith.training import trainer_config

    profile = device.detect()
    if profile.device == "cpu" and side == "ours":
        device.keep_freed_memory()
        trainer_config.patch_trl()
    lora = Lora(rank=16, alpha=32, dropout=0.0)
    set_seed(SEED)
    policy = loading.open_policy(BASE, BASE, profile, "lora", lora)
    examples = rows(objective, count)
    with tempfile.TemporaryDirectory() as scratch:
        sides = {"sft": sft_trainer, "dpo": dpo_trainer}
        trainer, tokens, held_out, prepared = sides[objective](side, policy, examples, profile, Path(scratch))
        began = time.monotonic()
        with trainer_config.one_precision(trainer) if side == "ours" else nullcontext():
            trainer.train()
        seconds = time.monotonic() - began
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": seconds,
        "prepared": prepared,
        "tokens": tokens,
        "steps": len(losses),
        "losses": losses,
        "held_out": held_out(),
        "load": os.getloadavg()[0],
    }


def trl_settings(side: str, scratch: Path) -> dict[str, Any]:
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
        "seed": SEED,
        "data_seed": SEED,
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


def sft_trainer(side: str, policy: Any, examples: list[dict[str, Any]], profile: Any, scratch: Path) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from tunesmith.models.log_probs import likelihoods
    from tunesmith.training.entries.sft import Sft
    from tunesmith.training.objectives import sft

    settings = Sft(dataset="rows", learning_rate=5e-4, max_length=MAX_LENGTH, batch_size=2, seed=SEED, probes=0)
    encoded = sft.encode(policy.tokenizer, examples, settings, "sft.benchmark", Path("rows"))
    unseen = [example.split() for example in list(encoded.values())[-HELD_OUT:]]
    train = dict(list(encoded.items())[:-HELD_OUT])
    trainer = sft.make_trainer(policy, train, settings, profile, scratch)
    if side != "ours":
        for _ in trainer.get_train_dataloader():  # records which rows go together
            pass
        batches = [[int(name) for name in batch] for batch in trainer.data_collator.batches]
        config = SFTConfig(**trl_settings(side, scratch), completion_only_loss=True)
        columns = {
            "input_ids": [example.input_ids for example in train.values()],
            "completion_mask": [example.completion_mask for example in train.values()],
        }
        dataset = Dataset.from_dict(columns)
        theirs = SFTTrainer(fresh(), args=config, train_dataset=dataset, processing_class=policy.tokenizer)
        trainer = in_batches(theirs, batches)

    def held_out() -> float:
        values = likelihoods(replace(policy, model=trainer.model), unseen, batch_size=8)
        return -sum(value.log_prob for value in values) / sum(len(completion) for _, completion in unseen)

    return trainer, sum(len(example.input_ids) for example in train.values()), held_out, 0.0


def dpo_trainer(side: str, policy: Any, examples: list[dict[str, Any]], profile: Any, scratch: Path) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from tunesmith.core.ready_rows import Conversation
    from tunesmith.models import chat, preference_pairs
    from tunesmith.training.entries.dpo import Dpo
    from tunesmith.training.objectives import dpo

    settings = Dpo(
        dataset="rows", start="base", learning_rate=5e-4, max_length=2 * MAX_LENGTH, batch_size=4, seed=SEED, probes=0
    )
    pairs = preference_pairs.encode(policy.tokenizer, examples, settings.max_length, "dpo", Path("rows"))
    train, unseen = pairs[:-HELD_OUT], pairs[-HELD_OUT:]
    began = time.monotonic()
    values = preference_pairs.log_probs(policy, pairs, settings.batch_size)
    prepared = time.monotonic() - began
    reference = dpo.Reference(
        [{"id": pair.id, "chosen": a, "rejected": b} for pair, (a, b) in zip(pairs, values, strict=True)], Path("-")
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
            fresh(),
            args=DPOConfig(**trl_settings(side, scratch), beta=settings.beta),
            train_dataset=Dataset.from_list(texts),
            processing_class=policy.tokenizer,
        )
        trainer = in_batches(theirs, batches)

    def held_out() -> float:
        tuned = replace(policy, model=trainer.model)
        now, before = preference_pairs.log_probs(tuned, unseen, 4), reference.of(unseen)
        margins = [settings.beta * (a - b - (c - d)) for (a, b), (c, d) in zip(now, before, strict=True)]
        return statistics.fmean(math.log1p(math.exp(-margin)) for margin in margins)

    return trainer, sum(pair.tokens for pair in train), held_out, prepared


def fresh() -> Any:
    """The same policy again: the first one belongs to the trainer that recorded the batches."""
    from transformers import set_seed

    from tunesmith.models import device, loading
    from tunesmith.models.settings import Lora

    set_seed(SEED)
    lora = Lora(rank=16, alpha=32, dropout=0.0)
    return loading.open_policy(BASE, BASE, device.detect(), "lora", lora).model


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("objective", choices=OBJECTIVES)
    parser.add_argument("--rows", type=int, default=48, help="rows, or pairs, to train on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.objective, options.side, options.rows)))
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat in range(options.repeats):
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.train_vs_trl", options.objective]
            command += ["--rows", str(options.rows), "--side", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            run = json.loads(done.stdout.splitlines()[-1])
            runs[side].append(run)
            print(f"{repeat + 1} {side:9} {run['seconds']:6.1f} s, load {run['load']:.1f}", file=sys.stderr)
    print_table(options.objective, runs)


def print_table(objective: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    medians = {side: statistics.median(run["seconds"] for run in done) for side, done in runs.items()}
    first = {side: done[0] for side, done in runs.items()}
    tokens, steps = first["ours"]["tokens"], first["ours"]["steps"]
    print(f"{objective}: {tokens} tokens in {steps} steps, medians of {len(runs['ours'])}")
    for side, seconds in medians.items():
        run = first[side]
        print(
            f"{side:9} {seconds:7.1f} s {run['tokens'] / seconds:7.1f} tokens/s "
            f"{medians['trl'] / seconds:5.2f} times as fast; last loss {run['losses'][-1]:.4f}, "
            f"held-out loss {run['held_out']:.4f}"
        )
    if objective == "dpo":
        prepared = statistics.median(run["prepared"] for run in runs["ours"])
        ratio = medians["trl"] / (medians["ours"] + prepared)
        print(f"ours with the reference, computed once in {prepared:.1f} s: {ratio:.2f} times as fast")
    apart = max(abs(a - b) for a, b in zip(first["ours"]["losses"], first["trl fp32"]["losses"], strict=True))
    print(f"largest difference of a step's loss, ours against trl fp32: {apart:.2e}")


if __name__ == "__main__":
    main()
