"""The share of a training's time that checkpoints take, measured in one run with and without them.

    python -m benchmarks.checkpoint_cost sft sft-lora [--pairs 2]

trains an entry of params.yaml, by turns with checkpoints as often as by default and with none, in a copy of the
project's models that is removed afterwards. Prints the seconds of each training, what its journal says of checkpoints,
the medians, and the load.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tunesmith.core import cpus, journal, layout

READ = ("params.yaml", "build", "data", "models", "stages")


def train(project: Path, objective: str, name: str, *, checkpoints: bool) -> tuple[float, float]:
    """Seconds of a training, and of its checkpoints."""
    pace = {} if checkpoints else {layout.CHECKPOINT_VARIABLE: "1e9"}
    command = [sys.executable, "-m", f"stages.train_{objective}", name]
    subprocess.run(command, cwd=project, env=os.environ | cpus.environment() | pace, check=True)
    end = journal.first(journal.read(project / layout.MODELS / name / journal.NAME), "end")
    return end["seconds"], end["checkpoint_seconds"]


def main(objective: str, name: str, pairs: int) -> None:
    """Print both sides."""
    with tempfile.TemporaryDirectory(dir=layout.MODELS) as folder:
        project = Path(folder)
        for path in READ:
            place = shutil.copytree if Path(path).is_dir() else shutil.copy
            ignored = {"ignore": shutil.ignore_patterns(project.name, "checkpoints")} if Path(path).is_dir() else {}
            place(path, project / path, **ignored)
        runs = [[train(project, objective, name, checkpoints=kept) for kept in (True, False)] for _ in range(pairs)]
    for (seconds, saving), (without, _) in runs:
        share = f"{saving:.1f} s ({saving / seconds:.1%}) of them checkpoints"
        print(f"with {seconds:.1f} s, {share}; without {without:.1f} s")
    ratio = statistics.median(run[0][0] / run[1][0] for run in runs)
    print(f"{name}: {ratio:.3f} times the time without checkpoints (median of {pairs}), load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objective")
    parser.add_argument("name")
    parser.add_argument("--pairs", type=int, default=2)
    options = parser.parse_args()
    main(options.objective, options.name, options.pairs)
