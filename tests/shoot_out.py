"""Made-up models that answered the same prompts, as evaluation and training would leave them."""

import math
import random
from dataclasses import replace
from typing import Any

from tunesmith.core.journal import Event
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation import grading
from tunesmith.evaluation.comparison import Compare, Evaluated
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.suites import Answers

SUITE = "sums"
SETTINGS = Answers(
    kind="answers", dataset="demo", verifier="number", answer_format=r"-?\d+", max_new_tokens=8, limit=None
)
HOW = Compare(confidence=0.95, resamples=500, seed=0)

RLHF_COSTS = {"sft-lora": 99.2, "reward": 61, "rlhf": 402}
# name: method, start, share right, costs in seconds, peak and predicted memory in bytes, artifact in bytes
KNOWN: dict[str, tuple[str, str, float, dict[str, float], float, float, int]] = {
    "sft-lora": ("SFT with LoRA", "base", 0.57, {"sft-lora": 99.2}, 3.32e9, 3.05e9, 19_593_064),
    "sft-qlora": ("SFT with QLoRA", "base", 0.53, {"sft-qlora": 143.9}, 2.71e9, 2.6e9, 19_593_064),
    "sft-full": ("full fine-tuning", "base", 0.59, {"sft-full": 170.4}, 4.98e9, 5.4e9, 538_090_408),
    "dpo": ("DPO with LoRA", "sft-lora", 0.6, {"sft-lora": 99.2, "dpo": 80.1}, 3.61e9, 3.9e9, 19_593_064),
    "rlhf": ("RLHF with LoRA", "sft-lora", 0.55, RLHF_COSTS, 3.5e9, 3.1e9, 19_593_064),
    "grpo": ("GRPO with LoRA", "sft-lora", 0.64, {"sft-lora": 99.2, "grpo": 388.7}, 3.55e9, 3.3e9, 19_593_064),
    "sft-full-long": ("full fine-tuning", "base", 0.61, {"sft-full-long": 880}, 4.99e9, 5.4e9, 538_090_408),
}


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": f"what is {number}?"}],
            "completion": [{"role": "assistant", "content": str(number)}],
        }
        for number in range(count)
    ]


def samples(completions: list[str]) -> list[Sample]:
    """Graded answers to as many rows; those of 8 letters or more were cut off."""
    answers = [Completion(text, "rendered", len(text), stopped=len(text) < 8) for text in completions]
    return grading.grade(SUITE, rows(len(completions)), answers, SETTINGS)


def evaluated(name: str, completions: list[str], **changes: Any) -> Evaluated:
    """A model that answered so, with the journal of a training that did not write much; changes: to its metrics."""
    graded = samples(completions)
    about = {"kind": "answers", "dataset": "demo", "verifier": "number"}
    metrics = {
        "model": name,
        "suites": {SUITE: about | grading.summarize(graded) | changes.pop("suite", {})},
        "template_digest": "t",
        "base_weights_digest": "b",
        "model_digest": name,
        "seconds": 1.0,
    }
    training = [] if name == "base" else [{"event": "step", "step": 1, "loss": 2.0}, {"event": "end", "seconds": 60.0}]
    return Evaluated(metrics | changes, {SUITE: graded}, training, weights_bytes=1000)


def models(*names: str, prompts: int = 128) -> list[Evaluated]:
    """The base, then the models of KNOWN with these names."""
    tuned = [
        replace(
            evaluated(name, answers(name, KNOWN[name][2], prompts)),
            training=journal(name),
            weights_bytes=KNOWN[name][6],
        )
        for name in names
    ]
    return [replace(evaluated("base", answers("base", 0.21, prompts)), weights_bytes=0), *tuned]


def answers(name: str, share: float, prompts: int) -> list[str]:
    """Right on about ``share`` of the prompts, mostly on those that the others are right on."""
    noise = random.Random(name)
    hard = [random.Random(number).random() for number in range(prompts)]
    return [
        str(number) if 0.6 * hard[number] + 0.4 * noise.random() < share else f"it is {number} + 1"
        for number in range(prompts)
    ]


def journal(name: str) -> list[Event]:
    """The journal of one of KNOWN."""
    method, start, _, costs, peak, predicted, _ = KNOWN[name]
    objective = name.split("-")[0]
    whole = "full" in name
    parameters = {"trainable_parameters": 134_515_008 if whole else 4_884_480, "total_parameters": 139_399_488}
    about = {"model": name, "method": method, "objective": objective, "start": start, "rows": 384, "dataset": "demo"}
    events: list[Event] = [{"event": "start", "key": name, "predicted_memory_bytes": predicted, **about}]
    events += [{"event": "step", "step": number, **step(objective, number)} for number in range(1, 61)]
    if objective == "dpo":
        held_out = {"pairs": 64, "low": 0.42, "high": 0.66, "margin": 0.0, "accuracy": 0.547}
        after = {"pairs": 64, "low": 0.74, "high": 0.92, "margin": 1.384, "accuracy": 0.844}
        events += [{"event": "held_out", "when": "before", **held_out}, {"event": "held_out", "when": "after", **after}]
    if name == "rlhf":
        events.append({"event": "warning", "text": "the reward rose by 1.9 while the verifier's score fell"})
    end = {"steps": 60, "seconds": costs[name], "tokens": 31_204, "peak_memory_bytes": peak, "costs": costs}
    return [*events, {"event": "end", **parameters, **end}]


def step(objective: str, number: int) -> dict[str, float | None]:
    noise = random.Random(f"{objective}{number}").gauss
    loss = 2.6 * math.exp(-number / 12) + 0.5 + noise(0, 0.15)
    values: dict[str, float | None] = {"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-3}
    if objective == "dpo":
        learned = 1 - math.exp(-number / 20)
        return values | {"loss": 0.69 - 0.3 * learned, "accuracy": 0.5 + 0.4 * learned, "margin": 1.5 * learned}
    if objective in ("rlhf", "grpo"):
        score = min(1, max(0, 0.5 + number / 300 + noise(0, 0.1)))
        reward = score if objective == "grpo" else -1 + number / 30 + noise(0, 0.4)
        kl = None if number == 1 else 0.002 * number + abs(noise(0, 0.01))
        lengths = {"completion_tokens": 3 + noise(0, 0.3), "equal_groups": 0.4, "reward_std": 0.3, "entropy": 0.2}
        return values | {"loss": noise(0, 0.02), "reward": reward, "score": score, "kl": kl, **lengths}
    return values
