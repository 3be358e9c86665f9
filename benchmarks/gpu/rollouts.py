"""A GRPO step of a large shape with random weights, and its share of generation."""

import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from benchmarks import random_models
from benchmarks.gpu import clock, shapes, speed
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.speed import Result, Settings
from tunesmith.models import device
from tunesmith.planning import model_shape
from tunesmith.training import trainer_config
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.objectives import grpo as objective
from tunesmith.training.objectives import rollouts

WORDS = 512
"""Words of the prompts; completions are any tokens."""


class Dice:
    """A reward at random: random weights write nothing that could be graded."""

    __name__ = "dice"

    def __init__(self) -> None:
        self.noise = random.Random(speed.SEED)

    def __call__(self, completions: list[Any], **_: Any) -> list[float]:
        return [self.noise.random() for _ in completions]


class GenerationClock:
    """Seconds and tokens of every generation of a trainer, until its step is over."""

    def __init__(self, trainer: Any) -> None:
        self.calls: list[tuple[float, int]] = []
        generate = trainer._generate_single_turn

        def timed(*args: Any, **settings: Any) -> Any:
            began = clock.now()
            found = generate(*args, **settings)
            completions = found[0] if isinstance(found, tuple) else found
            self.calls.append((clock.now() - began, sum(map(len, completions))))
            return found

        trainer._generate_single_turn = timed


def grpo(settings: Settings) -> Result:
    """Our GRPO: seconds of a step, of them those of generation, and the peak of memory."""
    set_seed(speed.SEED)
    profile, source = speed.profile_of(settings), shapes.source(settings["shape"])
    shape = model_shape.read(source)
    entry = _entry(settings)
    largest = rollouts.largest_step(entry, settings["prompt"], entry.batch_size)
    sizes = {name: getattr(largest, name) for name in ("batch", "length", "completion", "rollouts", "group")}
    work = speed.workload(settings | {"length": largest.length}, profile, objective="grpo", **sizes)
    profile, work = speed.as_planned(settings, profile, shape, work)
    if skipped := speed.misfit(shape, work):
        return skipped
    policy = random_models.policy(source, settings["weights"], profile, speed.adapter())
    policy = random_models.opened(policy.model, random_models.tokenizer(min(WORDS, shape.vocabulary)), profile)
    prompts = rollouts.dataset(_rows(settings, min(WORDS, shape.vocabulary)), entry)
    reward: Any = Dice()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = objective.make_trainer(policy, prompts, reward, entry, profile, Path(scratch))
        watch, generations = Clock(), GenerationClock(trainer)
        trainer.add_callback(watch)
        clock.forget_peak()
        with trainer_config.one_precision(trainer):
            trainer.train()
    seconds = [end - begin for begin, end in zip(watch.ends, watch.ends[1:], strict=False)]
    generated = generations.calls[1:]  # the first step warms up
    step, generation = statistics.median(seconds), statistics.median(taken for taken, _ in generated)
    written = statistics.median(tokens for _, tokens in generated)
    measured = device.peak_memory_bytes(profile)
    return {
        "steps": len(seconds),
        "step_seconds": step,
        "generation_seconds": generation,
        "generation_share": generation / step,
        "tokens_per_step": settings["prompts"] * settings["group"] * settings["prompt"] + written,
        "tokens_per_second": (settings["prompts"] * settings["group"] * settings["prompt"] + written) / step,
        "generated_tokens_per_second": written / generation,
        "checkpointing": work.machine.checkpointing,
        "peak_bytes": measured,
        "reserved_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
        **speed.beside_plan(shape, work, measured),
    }


def _entry(settings: Settings) -> Grpo:
    return Grpo(
        dataset="random",
        start="base",
        weights=settings["weights"],
        lora=speed.adapter(),
        learning_rate=1e-5,
        rewards={"number": 1.0},
        steps=settings["steps"],
        prompts=settings["prompts"],
        group=settings["group"],
        batch_size=settings["batch"],
        max_prompt_length=settings["prompt"],
        max_new_tokens=settings["completion"],
        seed=speed.SEED,
        probes=0,
    )


def _rows(settings: Settings, words: int) -> list[Any]:
    noise = random.Random(speed.SEED)
    special = len(random_models.SPECIAL)
    texts = [
        " ".join(f"w{noise.randrange(special, words)}" for _ in range(settings["prompt"]))
        for _ in range(settings["steps"] * settings["prompts"])
    ]
    return [{"id": str(number), "prompt": [{"role": "user", "content": text}]} for number, text in enumerate(texts)]
