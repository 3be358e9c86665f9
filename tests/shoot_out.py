"""Invented models that answered the same prompts, in the form that training and evaluation write."""

import math
import random
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.core.journal import Event
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation import grading
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.evaluation.differences import Compare
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.suites import Answers

SUITE = "sums"
SETTINGS = Answers(
    kind="answers", dataset="demo", verifier="number", answer_format=r"-?\d+", max_new_tokens=8, limit=None
)
HOW = Compare(confidence=0.95, resamples=500, seed=0)

ADAPTER, WHOLE = 19_593_064, 538_090_408
"""Bytes of the stored weights."""


@dataclass(frozen=True)
class Tuned:
    """An invented model."""

    method: str
    start: str
    right: float
    """The share of prompts that it answers right, about."""
    costs: dict[str, float]
    """Seconds of its training and of every one that it builds on."""
    peak_memory_bytes: int
    predicted_memory_bytes: int
    weights_bytes: int


SFT = {"sft-lora": 99.2}
TUNED = {
    "sft-lora": Tuned("SFT with LoRA", "base", 0.57, SFT, 3_320_000_000, 3_050_000_000, ADAPTER),
    "sft-qlora": Tuned("SFT with QLoRA", "base", 0.53, {"sft-qlora": 143.9}, 2_710_000_000, 2_600_000_000, ADAPTER),
    "sft-full": Tuned("full fine-tuning", "base", 0.59, {"sft-full": 170.4}, 4_980_000_000, 5_400_000_000, WHOLE),
    "dpo": Tuned("DPO with LoRA", "sft-lora", 0.6, SFT | {"dpo": 80.1}, 3_610_000_000, 3_900_000_000, ADAPTER),
    "rlhf": Tuned(
        "RLHF with LoRA", "sft-lora", 0.55, SFT | {"reward": 61, "rlhf": 402}, 3_500_000_000, 3_100_000_000, ADAPTER
    ),
    "grpo": Tuned("GRPO with LoRA", "sft-lora", 0.64, SFT | {"grpo": 388.7}, 3_550_000_000, 3_300_000_000, ADAPTER),
    "sft-full-long": Tuned(
        "full fine-tuning", "base", 0.61, {"sft-full-long": 880}, 4_990_000_000, 5_400_000_000, WHOLE
    ),
    "kto": Tuned("KTO with LoRA", "sft-lora", 0.58, SFT | {"kto": 91.0}, 3_400_000_000, 3_500_000_000, ADAPTER),
}
STEPS, EVERY = 60, 12
"""Steps of a training, and those between measurements of the validation split."""


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
    """Graded answers to as many rows; those of 8 letters or more did not stop."""
    answers = [Completion(text, "rendered", len(text), stopped=len(text) < 8) for text in completions]
    return grading.grade(SUITE, rows(len(completions)), answers, SETTINGS)


def evaluated(name: str, completions: list[str], **changes: Any) -> Evaluated:
    """A model with these answers and a short training journal. changes: of its metrics."""
    graded = samples(completions)
    about = {"kind": "answers", "dataset": "demo", "verifier": "number", "metric": None, "chat_template_kwargs": {}}
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
    """The base, then the models of TUNED with these names."""
    tuned = [
        replace(
            evaluated(name, answers(name, TUNED[name].right, prompts)),
            training=journal(name),
            weights_bytes=TUNED[name].weights_bytes,
            predicted_memory_bytes=TUNED[name].predicted_memory_bytes,
        )
        for name in names
    ]
    return [replace(evaluated("base", answers("base", 0.21, prompts)), weights_bytes=0), *tuned]


def in_nats(tuned: list[Evaluated]) -> list[Evaluated]:
    """The models, as if a task of lm-eval had scored them by log-probabilities: -4 for a right answer, else -9."""
    for model in tuned:
        about = {"kind": "lm_eval", "dataset": "wikitext", "verifier": None, "metric": "log-probability of a word"}
        for sample in model.samples[SUITE]:
            sample.update(score=5 * sample["score"] - 9, tokens=None, stopped=None, well_formed=None)
        model.metrics["suites"][SUITE].update(about | grading.summarize(model.samples[SUITE]))  # type: ignore
    return tuned


def answers(name: str, share: float, prompts: int) -> list[str]:
    """Answers that are right on about ``share`` of the prompts, mostly on the same prompts for every model."""
    noise = random.Random(name)
    hard = [random.Random(number).random() for number in range(prompts)]
    return [
        str(number) if 0.6 * hard[number] + 0.4 * noise.random() < share else f"it is {number} + 1"
        for number in range(prompts)
    ]


def journal(name: str) -> list[Event]:
    """The training journal of one of TUNED, of which all but sft-qlora measure the validation split."""
    tuned, objective = TUNED[name], name.split("-")[0]
    about = {"model": name, "method": tuned.method, "objective": objective, "start": tuned.start}
    events: list[Event] = [{"event": "start", "key": name, "rows": 384, "dataset": "demo", **about}]
    measured = {number: validation(objective, number) for number in range(0, STEPS + 1, EVERY)}
    if name == "sft-qlora":
        measured = {}
    for number in range(STEPS + 1):
        if number:
            events.append({"event": "step", "step": number, **step(objective, number)})
        if number in measured:
            events.append({"event": "validation", "step": number, **measured[number]})
    if objective == "dpo":
        held_out = {"pairs": 64, "low": 0.42, "high": 0.66, "margin": 0.0, "accuracy": 0.547}
        after = {"pairs": 64, "low": 0.74, "high": 0.92, "margin": 1.384, "accuracy": 0.844}
        events += [{"event": "held_out", "when": "before", **held_out}, {"event": "held_out", "when": "after", **after}]
    if name == "rlhf":
        events.append({"event": "warning", "text": "the reward rose by 1.9 while the verifier's score fell"})
    end = {
        "event": "end",
        "steps": STEPS,
        "kept": max([*measured][1:], key=lambda number: _goodness(measured[number]), default=STEPS),
        "seconds": tuned.costs[name],
        "tokens": 31_204,
        "trainable_parameters": 134_515_008 if tuned.weights_bytes == WHOLE else 4_884_480,
        "total_parameters": 139_399_488,
        "peak_memory_bytes": tuned.peak_memory_bytes,
        "costs": tuned.costs,
    }
    return [*events, end]


def step(objective: str, number: int) -> dict[str, float | None]:
    noise = random.Random(f"{objective}{number}").gauss
    loss = 2.6 * math.exp(-number / 12) + 0.5 + noise(0, 0.15)
    values: dict[str, float | None] = {"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-3}
    if objective == "dpo":
        learned = 1 - math.exp(-number / 20)
        return values | {"loss": 0.69 - 0.3 * learned, "accuracy": 0.5 + 0.4 * learned, "margin": 1.5 * learned}
    if objective == "kto":
        return values | {"loss": 0.5 - number / 600 + noise(0, 0.01), "margin": number / 40 + noise(0, 0.2), "kl": 0.1}
    if objective in ("rlhf", "grpo"):
        score = min(1, max(0, 0.5 + number / 300 + noise(0, 0.1)))
        reward = score if objective == "grpo" else -1 + number / 30 + noise(0, 0.4)
        kl = None if number == 1 else 0.002 * number + abs(noise(0, 0.01))
        lengths = {"completion_tokens": 3 + noise(0, 0.3), "equal_groups": 0.4, "reward_std": 0.3, "entropy": 0.2}
        return values | {"loss": noise(0, 0.02), "reward": reward, "score": score, "kl": kl, **lengths}
    return values


def validation(objective: str, number: int) -> dict[str, float]:
    """A measurement on the validation split; the loss of SFT rises again in the end."""
    learned = 1 - math.exp(-number / 20)
    if objective == "sft":
        return {"loss": 2.6 * math.exp(-number / 12) + 0.5 + 0.3 * (number / STEPS) ** 2}
    if objective in ("dpo", "kto"):
        return {"loss": 0.693 - 0.25 * learned, "accuracy": 0.5 + 0.34 * learned, "margin": 1.38 * learned}
    return {"score": 0.45 + number / 300 - 0.1 * (number == STEPS)}


def _goodness(measured: dict[str, float]) -> float:
    return measured["score"] if "score" in measured else -measured["loss"]
