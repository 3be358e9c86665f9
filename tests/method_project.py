"""A project folder around the tiny base in which any training stage can run, in this process and in seconds."""

import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import yaml

from tunesmith.core import ready_rows
from tunesmith.project import document, stage_params
from tunesmith.verifiers.verdict import Columns, Verdict

SUMS = [(a, b) for a in range(2, 10) for b in (11, 23, 37)]

RATES = {"lora": 0.05, "qlora": 0.05, "full": 0.01}
SCHEDULE = {
    "lora": {"rank": 2, "alpha": 4},
    "learning_rate": RATES["lora"],
    "warmup_share": 0.0,
    "batch_size": 4,
    "seed": 1,
    "probes": 2,
}
SFT = SCHEDULE | {"dataset": "answers", "max_length": 120, "batch_size": 2, "probes": 0}
PAIRS = SCHEDULE | {"dataset": "pairs", "start": "sft-lora", "max_length": 120}
ONLINE = SCHEDULE | {
    "dataset": "prompts",
    "start": "sft-lora",
    "steps": 4,
    "seed": 6,
    "prompts": 2,
    "group": 4,
    "batch_size": 8,
    "max_new_tokens": 6,
    "beta": 0.05,
    "max_kl": 50.0,
    "max_prompt_length": 100,
}
PARAMS: dict[str, Any] = {
    "sft": {f"sft-{kind}": SFT | {"weights": kind, "learning_rate": rate} for kind, rate in RATES.items()},
    "dpo": {"dpo": PAIRS | {"beta": 0.5}},
    "kto": {"kto": PAIRS | {"dataset": "marks", "beta": 0.5}},
    "reward": {"reward": PAIRS | {"probes": 0}},
    "rlhf": {"rlhf": ONLINE | {"reward": "reward", "verifier": "number"}},
    "grpo": {"grpo": ONLINE | {"rewards": {"number": 1.0}}},
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
    marks = [
        {"id": f"{name}{label}", "prompt": prompt, "completion": say(total if label else "no idea"), "label": label}
        for name, prompt, total in rows[:6]
        for label in (True, False)
    ]
    # Any digit counts, so that a random policy's rollouts are not all wrong.
    prompts = [
        {"id": name, "prompt": prompt, "verifier": "number", "reference": str(total % 10)}
        for name, prompt, total in rows[:12]
    ]
    for dataset, content in {"answers": answers, "pairs": pairs, "marks": marks, "prompts": prompts}.items():
        for split in ("train", "validation", "test"):
            ready_rows.write_jsonl(folder / "data" / "ready" / dataset / f"{split}.jsonl", content)
    return folder


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """params.yaml, and the effective params of every stage, as `resolve_params` leaves them."""
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for resolved in stage_params.of(document.load(folder / "params.yaml")):
        ready_rows.write_json(folder / resolved.path, resolved.values)


def changed(objective: str, **changes: Any) -> dict[str, Any]:
    """PARAMS with changes to the entry that has the name of its objective."""
    return PARAMS | {objective: {objective: PARAMS[objective][objective] | changes}}


def with_weights(objective: str, kind: str) -> dict[str, Any]:
    """PARAMS whose entry of an objective trains other weights."""
    return changed(objective, weights=kind, learning_rate=RATES[kind])


def parity(completion: str, row: Columns) -> Verdict:
    """A score that varies even over the answers of a random policy."""
    right = completion == row["reference"] or crc32(completion.encode()) % 2 == 0
    return Verdict(float(right), completion, "for a test")
