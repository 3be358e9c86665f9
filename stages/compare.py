"""Compare every evaluated model with the base, on the same prompts.

    python -m stages.compare base sft-lora

reads   reports/<model>/{metrics.json,samples.jsonl}, models/<model>/{training.jsonl,manifest.json},
        models/reward/training.jsonl, data/ready/<dataset>/train.jsonl of every objective
params  compare, and the dataset of every objective
writes  reports/comparison.json, reports/comparison.html
"""

import json
import sys
from pathlib import Path

from tunesmith import atomic, journal, manifest, ready, report, words
from tunesmith.comparison import BASELINE, Compare, Evaluated, compare
from tunesmith.console import run
from tunesmith.params import load

MODELS, READY, REPORTS = Path("models"), Path("data/ready"), Path("reports")
REWARD = "reward"
TABLE, PAGE = REPORTS / "comparison.json", REPORTS / "comparison.html"


def main(names: list[str]) -> str:
    models = [open_evaluated(name) for name in names]
    reward_models = {REWARD: journal.read(MODELS / REWARD / journal.NAME)}
    comparison = compare(models, trained_on(), load(Compare, "compare"), reward_models)
    ready.write_json(TABLE, comparison)
    atomic.write_text(PAGE, report.page(comparison, models, reward_models))
    return f"{PAGE}: {words.best(comparison)}"


def trained_on() -> list[ready.Row]:
    """The rows of every training. A prompt that one of them saw cannot judge any: models are built on models."""
    datasets = {
        load(str, "sft.dataset"),
        load(str, "dpo.dataset"),
        load(str, "reward.dataset"),
        load(str, "rlhf.dataset"),
        load(str, "grpo.dataset"),
    }
    return [row for name in sorted(datasets) for row in ready.read(READY / name / "train.jsonl")]


def open_evaluated(name: str) -> Evaluated:
    metrics = json.loads((REPORTS / name / "metrics.json").read_text())
    samples = ready.read(REPORTS / name / "samples.jsonl")
    if name == BASELINE:
        return Evaluated(metrics, samples, training=[], weights_bytes=0)
    training = journal.read(MODELS / name / journal.NAME)
    return Evaluated(metrics, samples, training, manifest.read(MODELS / name).weights_bytes)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
