"""Make ready rows of one dataset: map its columns, set bad rows aside, split by the hash of the prompt.

    python -m stages.prepare_data DATASET

reads   the file at params data.<dataset>.path
params  data.<dataset>
writes  data/ready/<dataset>/{train,validation,test}.jsonl, data/quarantine/<dataset>.jsonl, reports/data/<dataset>.json
"""

import sys
from pathlib import Path

from tunesmith import atomic, records
from tunesmith.console import run
from tunesmith.params import load
from tunesmith.preparation import Dataset, prepare

READY, QUARANTINE, REPORTS = Path("data/ready"), Path("data/quarantine"), Path("reports/data")


def main(name: str) -> str:
    dataset = load(Dataset, f"data.{name}")
    prepared = prepare(dataset)
    with atomic.new_folder(READY / name) as folder:
        for split, rows in prepared.splits.items():
            records.write_jsonl(folder / f"{split}.jsonl", rows)
    quarantined = [records.problem_row(dataset.path, problem) for problem in prepared.problems]
    records.write_jsonl(QUARANTINE / f"{name}.jsonl", quarantined)
    records.write_json(REPORTS / f"{name}.json", prepared.report)
    counts = ", ".join(f"{count} {split}" for split, count in prepared.report["splits"].items())
    aside = f"; {len(quarantined)} set aside in {QUARANTINE / name}.jsonl" if quarantined else ""
    return f"{READY / name}: {counts} of {prepared.report['rows']} rows{aside}"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
