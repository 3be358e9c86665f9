"""A tiny supervised fine-tuning on sums: its rows, its params and its spec."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunesmith.models.settings import Lora
from tunesmith.training.entries.sft import Sft
from tunesmith.training.objectives.sft import Examples, encode
from tunesmith.training.spec import LargestStep, TrainingSpec

ROWS = [
    {
        "id": f"{a}+{b}",
        "prompt": [{"role": "user", "content": f"{a} + {b}"}],
        "completion": [{"role": "assistant", "content": str(a + b)}],
    }
    for a in range(4)
    for b in range(6)
]
PROBES = ROWS[:3]
LORA = Lora(rank=4, alpha=8, dropout=0.0)


def settings(**changes: Any) -> Sft:
    values: dict[str, Any] = {
        "dataset": "rows",
        "lora": LORA,
        "learning_rate": 0.05,
        "max_length": 128,
        "seed": 1,
        "probes": 3,
    }
    return Sft(**(values | changes))


def spec_of(sft: Sft, out: Path, base: Path) -> TrainingSpec:
    step = LargestStep(batch=sft.batch_size, length=sft.max_length)
    return TrainingSpec(out=out, objective="sft", entry=sft, start=base, rows=len(ROWS), inputs=[], largest_step=step)


def tokens(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], sft: Sft) -> Examples:
    return encode(tokenizer, rows, sft, "sft.sft-lora", Path("rows"))
