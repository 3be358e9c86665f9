"""A project folder around the tiny base in which any training stage can run, in this process and in seconds."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core import ready_rows

SUMS = [(a, b) for a in range(2, 10) for b in (11, 23, 37)]

RATES = {"lora": 0.05, "qlora": 0.05, "full": 0.01}
SCHEDULE = {"learning_rate": RATES, "warmup_share": 0.0, "batch_size": 4, "seed": 1, "probes": 2}
ONLINE = SCHEDULE | {
    "dataset": "prompts",
    "start": "sft-lora",
    "weights": "lora",
    "steps": 2,
    "prompts": 2,
    "group": 4,
    "max_new_tokens": 6,
    "temperature": 1.0,
    "beta": 0.05,
    "max_kl": 50.0,
    "max_prompt_length": 100,
}
PAIRS = SCHEDULE | {
    "dataset": "pairs",
    "start": "sft-lora",
    "weights": "lora",
    "epochs": 1,
    "max_length": 120,
}
PARAMS: dict[str, Any] = {
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.0},
    "sft": SCHEDULE
    | {"dataset": "answers", "turns": "completion", "epochs": 1, "max_length": 120, "batch_size": 2, "probes": 0},
    "dpo": PAIRS | {"beta": 0.5},
    "reward": PAIRS | {"probes": 0},
    "rlhf": ONLINE | {"verifier": "number", "batch_size": 8},
    "grpo": ONLINE | {"rewards": {"number": 1.0}, "probe": 4, "batch_size": 8},
    "registry": {"experiment": "e", "model": "m"},
}


def make(folder: Path, base: Path, params: dict[str, Any] = PARAMS) -> Path:
    """The project, with ready rows; a stage reads its pairs again as held-out ones."""
    shutil.copytree(base, folder / "models" / "base")
    write_params(folder, params)
    rows = [(f"r{a}x{b}", [{"role": "user", "content": f"What is {a} + {b}?"}], a + b) for a, b in SUMS]

    def say(text: object) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": str(text)}]

    answers = [{"id": name, "prompt": prompt, "completion": say(total)} for name, prompt, total in rows[:16]]
    pairs = [
        {"id": name, "prompt": prompt, "chosen": say(total), "rejected": say("no idea")}
        for name, prompt, total in rows[:8]
    ]
    # Any digit counts, so that a random policy's rollouts are not all wrong.
    prompts = [
        {"id": name, "prompt": prompt, "verifier": "number", "reference": str(total % 10)}
        for name, prompt, total in rows[:12]
    ]
    for dataset, content in {"answers": answers, "pairs": pairs, "prompts": prompts}.items():
        for split in ("train", "validation", "test"):
            ready_rows.write_jsonl(folder / "data" / "ready" / dataset / f"{split}.jsonl", content)
    return folder


def write_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def with_weights(objective: str, kind: str) -> dict[str, Any]:
    """PARAMS with one line changed."""
    return PARAMS | {objective: PARAMS[objective] | {"weights": kind}}
