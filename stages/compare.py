"""Compare every evaluated model with the base, on the same prompts.

    python -m stages.compare base sft-lora

reads   reports/<model>/{metrics.json,samples.jsonl}, models/<model>/{training.jsonl,manifest.json},
        data/ready/<sft.dataset>/train.jsonl
params  compare, sft.dataset
writes  reports/comparison.json, reports/comparison.html
"""

import json
import sys
from pathlib import Path

from tunesmith import atomic, journal, manifest, ready, report
from tunesmith.comparison import BASELINE, Compare, Evaluated, compare
from tunesmith.console import run
from tunesmith.params import load

MODELS, READY, REPORTS = Path("models"), Path("data/ready"), Path("reports")
TABLE, PAGE = REPORTS / "comparison.json", REPORTS / "comparison.html"


def main(names: list[str]) -> str:
    models = [open_evaluated(name) for name in names]
    trained_on = ready.read(READY / load(str, "sft.dataset") / "train.jsonl")
    comparison = compare(models, trained_on, load(Compare, "compare"))
    ready.write_json(TABLE, comparison)
    atomic.write_text(PAGE, report.page(comparison, models))
    outcomes = [
        f"{name} {result['verdict']} by {result['difference']:+.3f} [{result['low']:+.3f}, {result['high']:+.3f}]"
        for name, result in comparison["against_baseline"].items()
    ]
    return f"{PAGE}: against {BASELINE}: {'; '.join(outcomes)}"


def open_evaluated(name: str) -> Evaluated:
    metrics = json.loads((REPORTS / name / "metrics.json").read_text())
    samples = ready.read(REPORTS / name / "samples.jsonl")
    if name == BASELINE:
        return Evaluated(metrics, samples, training=[], weights_bytes=0)
    training = journal.read(MODELS / name / journal.NAME)
    return Evaluated(metrics, samples, training, manifest.read(MODELS / name).weights_bytes)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
