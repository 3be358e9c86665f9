"""Compare every evaluated model with the base, on the same prompts, and decide which pass the gate.

    python -m stages.compare base sft-lora

reads   reports/<model>/{metrics.json,samples.jsonl}, reports/base/repeats.jsonl,
        models/<model>/{training.jsonl,manifest.json}, models/reward/training.jsonl,
        data/ready/<dataset>/train.jsonl of every objective
params  compare, gate, and the dataset of every objective
writes  reports/comparison.json, reports/comparison.html, reports/scores.csv, reports/losses.csv
"""

import json
import sys
from pathlib import Path

from tunesmith.core import files, journal, manifest, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.comparison import BASELINE, Compare, Evaluated, compare
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.reports import comparison_page, dvc_plots, sentences

MODELS, READY, REPORTS = Path("models"), Path("data/ready"), Path("reports")
REWARD = "reward"
REPEATS = REPORTS / BASELINE / "repeats.jsonl"
TABLE, PAGE = REPORTS / "comparison.json", REPORTS / "comparison.html"
SCORES, LOSSES = REPORTS / "scores.csv", REPORTS / "losses.csv"


def main(names: list[str]) -> str:
    models = [open_evaluated(name) for name in names]
    reward_models = {REWARD: journal.read(MODELS / REWARD / journal.NAME)}
    decisions = decide_all(load(Gate, "gate"), models, read_repeats())
    comparison = compare(models, trained_on(), load(Compare, "compare"), reward_models, decisions)
    ready_rows.write_json(TABLE, comparison)
    files.write_text(PAGE, comparison_page.page(comparison, models, reward_models))
    files.write_text(SCORES, dvc_plots.scores(comparison))
    files.write_text(LOSSES, dvc_plots.losses(models, reward_models))
    return f"{PAGE}: {sentences.best(comparison)}"


def read_repeats() -> list[Sample]:
    """The base's further answers; none where none were asked for."""
    return ready_rows.read(REPEATS) if REPEATS.read_bytes() else []


def trained_on() -> list[ready_rows.Row]:
    """The rows of every training. A prompt that one of them saw cannot judge any: models are built on models."""
    datasets = {
        load(str, "sft.dataset"),
        load(str, "dpo.dataset"),
        load(str, "reward.dataset"),
        load(str, "rlhf.dataset"),
        load(str, "grpo.dataset"),
    }
    return [row for name in sorted(datasets) for row in ready_rows.read(READY / name / "train.jsonl")]


def open_evaluated(name: str) -> Evaluated:
    metrics = json.loads((REPORTS / name / "metrics.json").read_text())
    samples: dict[str, list[Sample]] = {suite: [] for suite in metrics["suites"]}
    for sample in ready_rows.read(REPORTS / name / "samples.jsonl"):
        samples[sample["suite"]].append(sample)
    if name == BASELINE:
        return Evaluated(metrics, samples, training=[], weights_bytes=0)
    training = journal.read(MODELS / name / journal.NAME)
    return Evaluated(metrics, samples, training, manifest.read(MODELS / name).weights_bytes)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
