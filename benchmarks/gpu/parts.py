"""The parts of the benchmark, in order of worth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Theme = Literal["right", "fast"]


@dataclass(frozen=True)
class Part:
    """One measurement.

    run: its function, "module:name" in this package, which takes ``settings`` and returns JSON. seconds: what it is
    expected to take on one H100. process: parts with the same name share a process, if it lives; others have their own,
    so that their peaks of memory are their own. tiny: settings in place of those where the numbers do not matter.
    needs: libraries without which it is skipped. to_beat: a published figure, in words.
    """

    name: str
    theme: Theme
    run: str
    seconds: float
    process: str
    settings: dict[str, Any] = field(default_factory=dict)
    tiny: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    to_beat: str = ""


TINY: dict[str, Any] = {"shape": "two-layers", "batch": 2, "length": 64, "steps": 4}
TRAINER = ("trl", "datasets")
QLORA = (*TRAINER, "bitsandbytes")
EIGHT_B: dict[str, Any] = {"shape": "llama-3.1-8b", "weights": "lora", "rows": "full", "steps": 7}
NEMO = "NeMo AutoModel on one H100: 12,473 tokens/s, MFU 41%"
PRIME = "prime-rl: 6,229 tokens/s, 23.3 GiB"


def _right() -> Iterator[Part]:
    """Correctness of the paths, and a real training, evaluation and resume of each objective."""
    for kind in ("llama", "qwen3", "gemma3_text"):
        yield Part(f"paths-{kind}", "right", "correctness:check", 8, "paths", {"kind": kind}, needs=TRAINER)
    for kind in ("idefics3", "qwen2_5_vl"):
        yield Part(f"images-{kind}", "right", "seeing:check", 8, "paths", {"kind": kind}, needs=("PIL",))
    for entry in ("sft-lora", "dpo", "grpo", "sft-qlora", "kto", "reward", "rlhf", "sft-full"):
        settings = {"entry": entry, "twice": entry == "sft-lora"}
        needs = QLORA if entry == "sft-qlora" else TRAINER
        yield Part(f"training-{entry}", "right", "trainings:train", 8, "trainings", settings, needs=needs)
    yield Part("evaluation", "right", "trainings:evaluate", 10, "trainings", needs=("lm_eval",))


def _sft(name: str, seconds: float, settings: dict[str, Any], **more: Any) -> Part:
    needs = QLORA if settings["weights"] == "qlora" else TRAINER
    return Part(name, "fast", more.pop("run", "speed:sft"), seconds, name, settings, TINY, needs, **more)


def _fast() -> Iterator[Part]:
    """Speed and memory; those with a published figure first."""
    long = EIGHT_B | {"batch": 2, "length": 4096}
    yield _sft("sft-8b-lora-4096", 30, long | {"checkpointing": False}, to_beat=NEMO)
    yield _sft("sft-8b-lora-4096-recomputed", 30, long | {"checkpointing": True}, to_beat=NEMO)
    nf4 = EIGHT_B | {"weights": "qlora", "batch": 1, "checkpointing": True, "steps": 5}
    yield _sft("sft-8b-qlora-8192", 30, nf4 | {"length": 8192}, to_beat="10 GB")
    chats = EIGHT_B | {"rows": "chats", "batch": 2, "length": 4096, "checkpointing": True}
    yield _sft("sft-8b-lora-chats", 30, chats)
    yield _sft("sft-8b-lora-chats-trl", 35, chats | {"steps": 9}, run="speed:trl_sft")
    yield Part(
        "grpo-8b-lora",
        "fast",
        "rollouts:grpo",
        60,
        "grpo-8b-lora",
        EIGHT_B | {"steps": 3, "prompts": 4, "group": 8, "batch": 16, "prompt": 256, "completion": 128},
        TINY | {"steps": 3, "prompts": 2, "group": 4, "batch": 4, "prompt": 16, "completion": 8},
        TRAINER,
    )
    pairs = EIGHT_B | {"batch": 4, "length": 1024, "completion": 512, "steps": 6}
    yield Part("dpo-8b-lora", "fast", "speed:dpo", 30, "dpo-8b-lora", pairs, TINY | {"completion": 32}, TRAINER)
    qwen = EIGHT_B | {"shape": "qwen3-4b", "batch": 1, "length": 16384, "checkpointing": True, "steps": 6}
    yield _sft("sft-4b-lora-16384", 30, qwen, to_beat=PRIME)
    yield _sft("sft-8b-qlora-4096", 25, nf4 | {"length": 4096})
    yield _sft("sft-8b-qlora-1024", 20, nf4 | {"length": 1024, "steps": 7})


PARTS = (*_right(), *_fast())
