"""Speed and memory of trainings of large shapes with random weights, beside what `tunesmith plan` predicts."""

import random
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from benchmarks import random_models
from benchmarks.gpu import clock, flops, shapes
from benchmarks.gpu.clock import Clock
from tunesmith.core.ready_rows import ReferenceRow
from tunesmith.models import chat, device
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.preference_pairs import Pair
from tunesmith.models.settings import Lora
from tunesmith.planning import fit, hardware, memory, model_shape
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Workload
from tunesmith.training import trainer_config
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.sft import Sft
from tunesmith.training.objectives import dpo as dpo_objective
from tunesmith.training.objectives import sft as sft_objective

SEED, RANK = 1, 16
CHATS = (5.7, 0.7)
"""Mean and deviation of the logarithm of a chat's tokens: a median of 300."""
LONGEST_CHAT = 1024
"""Tokens: TRL cuts longer rows by default."""

Settings = dict[str, Any]
Result = dict[str, Any]


def adapter() -> Lora:
    return Lora(rank=RANK, alpha=2 * RANK, dropout=0.0)


def profile_of(settings: Settings) -> Profile:
    """This machine's profile, with recomputed layers where the settings say so."""
    return replace(device.detect(), gradient_checkpointing=settings.get("checkpointing", False))


def as_planned(settings: Settings, profile: Profile, shape: Shape, work: Workload) -> tuple[Profile, Workload]:
    """The profile and the workload with layers recomputed as the settings, or else the plan, say."""
    recomputed = settings.get("checkpointing", fit.recompute(shape, work, hardware.detect().budget))
    return replace(profile, gradient_checkpointing=recomputed), fit.with_recomputation(work, recomputed)


def rows(settings: Settings, vocabulary: int) -> dict[str, chat.Example]:
    """Rows of random tokens for all steps, all trained but the first: each as long as may be, or as long as chats."""
    noise = random.Random(SEED)
    wanted = settings["steps"] * settings["batch"] * settings["length"]
    examples: dict[str, chat.Example] = {}
    total = 0
    while total < wanted:
        drawn = round(noise.lognormvariate(*CHATS)) if settings["rows"] == "chats" else settings["length"]
        longest = min(LONGEST_CHAT, settings["length"]) if settings["rows"] == "chats" else settings["length"]
        length = max(8, min(longest, drawn))
        tokens = [noise.randrange(len(random_models.SPECIAL), vocabulary) for _ in range(length)]
        examples[str(len(examples))] = chat.Example(tokens, [0] + [1] * (length - 1))
        total += length
    return examples


def beside_plan(shape: Shape, work: Workload, measured: int) -> Result:
    """Bytes by `tunesmith plan`, without the driver's share on a GPU, which torch does not count."""
    driver = memory.CUDA_CONTEXT if work.machine.device == "cuda" else 0
    predicted = memory.predict(shape, work).total - driver
    return {"predicted_bytes": predicted, "measured_over_predicted": measured / predicted}


def workload(settings: Settings, profile: Profile, **more: Any) -> Workload:
    machine = replace(hardware.detect().machine, checkpointing=profile.gradient_checkpointing)
    sizes = {"batch": settings["batch"], "length": settings["length"]}
    return Workload(weights=settings["weights"], machine=machine, rank=RANK, **(sizes | more))


def misfit(shape: Shape, work: Workload) -> Result | None:
    """The reason to skip a training that is predicted not to fit here."""
    needed, budget = memory.predict(shape, work).total, hardware.detect().budget
    if needed <= budget:
        return None
    return {"skipped": f"predicted to take {needed / 1e9:.1f} GB, of {budget / 1e9:.1f}", "predicted_bytes": needed}


def run(trainer: Any, policy: OpenModel, settings: Settings, shape: Shape, work: Workload, *, ours: bool) -> Result:
    """Train the first steps, and return their speed and the peak of memory."""
    watch = Clock()
    watch.watch(trainer)
    trainer.args.max_steps = settings["steps"]
    clock.forget_peak()
    with trainer_config.one_precision(trainer) if ours else nullcontext():
        trainer.train()
    steps = watch.steps(settings.get("warm", clock.WARM))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    profile = policy.profile
    measured = device.peak_memory_bytes(profile)
    found = clock.summary(steps) | rates(shape, settings, steps, profile.name)
    return found | {
        "checkpointing": work.machine.checkpointing,
        "packed": bool(getattr(trainer.args, "packing", False)),
        "attention": policy.model.config._attn_implementation,
        "losses": losses[:1] + losses[-1:],
        "peak_bytes": measured,
        "reserved_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
        **(beside_plan(shape, work, measured) if ours else {}),
    }


def rates(shape: Shape, settings: Settings, steps: list[tuple[float, list[int]]], card: str) -> Result:
    """Utilization by both conventions of `flops`, over all measured steps."""
    seconds, lengths = sum(time for time, _ in steps), [length for _, rows in steps for length in rows]
    operations = flops.training(shape, settings["weights"], lengths)
    by_n = flops.six_n(shape, sum(lengths))
    return {
        "tflops_per_second": operations / seconds / 1e12,
        "mfu": flops.utilization(operations, seconds, card),
        "mfu_6n": flops.utilization(by_n, seconds, card),
    }


def sft(settings: Settings) -> Result:
    """Our SFT."""
    return _sft(settings, ours=True)


def trl_sft(settings: Settings) -> Result:
    """TRL's SFT with its defaults on the same rows and model; its batch is TRL's."""
    return _sft(settings, ours=False)


def _sft(settings: Settings, *, ours: bool) -> Result:
    set_seed(SEED)
    profile, source = profile_of(settings), shapes.source(settings["shape"])
    shape = model_shape.read(source)
    work = workload(settings, profile, objective="sft")
    if skipped := misfit(shape, work):
        return skipped
    began = clock.now()
    policy = random_models.policy(source, settings["weights"], profile, adapter())
    entry = Sft(
        dataset="random",
        weights=settings["weights"],
        lora=adapter(),
        learning_rate=1e-4,
        max_length=settings["length"],
        batch_size=settings["batch"],
        seed=SEED,
        probes=0,
    )
    examples = rows(settings, shape.vocabulary)
    with tempfile.TemporaryDirectory() as scratch:
        if ours:
            trainer: Any = sft_objective.make_trainer(policy, examples, entry, profile, Path(scratch))
        else:
            trainer = trl_trainer(policy, examples, settings, Path(scratch))
        built = clock.now() - began
        return {"build_seconds": built} | run(trainer, policy, settings, shape, work, ours=ours)


def trl_trainer(policy: OpenModel, examples: dict[str, chat.Example], settings: Settings, scratch: Path) -> Any:
    """TRL's trainer as it comes, but for what must not happen here: reports, checkpoints, and more than some steps."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    columns = {
        "input_ids": [example.input_ids for example in examples.values()],
        "completion_mask": [example.completion_mask for example in examples.values()],
    }
    cpu = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    batch = {"per_device_train_batch_size": settings["batch"]} if "trl_batch" in settings else {}
    config = SFTConfig(output_dir=str(scratch), report_to="none", save_strategy="no", seed=SEED, **batch, **cpu)
    return SFTTrainer(
        policy.model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=policy.tokenizer
    )


def dpo(settings: Settings) -> Result:
    """Our DPO. Its tokens are those of both conversations, though a prompt may be computed once for the two."""
    set_seed(SEED)
    profile, source = profile_of(settings), shapes.source(settings["shape"])
    shape = model_shape.read(source)
    work = workload(settings, profile, objective="dpo", completion=settings["completion"])
    profile, work = as_planned(settings, profile, shape, work)
    if skipped := misfit(shape, work):
        return skipped
    began = clock.now()
    policy = random_models.policy(source, settings["weights"], profile, adapter())
    entry = Dpo(
        dataset="random",
        start="base",
        weights=settings["weights"],
        lora=adapter(),
        learning_rate=1e-5,
        max_length=settings["length"],
        batch_size=settings["batch"],
        seed=SEED,
        probes=0,
    )
    pairs = random_pairs(settings, shape.vocabulary)
    values: list[ReferenceRow] = [{"id": pair.id, "chosen": -100.0, "rejected": -100.0} for pair in pairs]
    reference = dpo_objective.Reference(values, Path("-"))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = dpo_objective.make_trainer(policy, pairs, reference, entry, profile, Path(scratch))
        built = clock.now() - began
        return {"build_seconds": built} | run(trainer, policy, settings, shape, work, ours=True)


def random_pairs(settings: Settings, vocabulary: int) -> list[Pair]:
    """Pairs for all steps, with a prompt of their own and completions of one length."""
    noise = random.Random(SEED)

    def tokens(count: int) -> list[int]:
        return [noise.randrange(len(random_models.SPECIAL), vocabulary) for _ in range(count)]

    prompt, completion = settings["length"] - settings["completion"], settings["completion"]
    count = settings["steps"] * settings["batch"]
    return [Pair(str(number), tokens(prompt), tokens(completion), tokens(completion)) for number in range(count)]
