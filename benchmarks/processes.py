"""One process against two, for every objective and kind of weights, with all weights in each or divided.

    python -m benchmarks.processes REPORT.md

trains a tiny random model in float32 on a CPU (gloo): once by one process, twice by two (DDP), once by two that divide
the weights (FSDP2). Writes the largest difference between the losses of a step, and whether twice is the same bytes.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.tracker_outages import make_base
from tests import ranked_trainings
from tests.ranked_trainings import INDIVISIBLE, MODELS, losses
from tunesmith.core import cpus, manifest

HEADING = """# One process and two

`python -m benchmarks.processes`: a tiny random model, float32, gloo, {measured}.
The largest difference between the losses of a step; the batches of an epoch do not divide evenly.

"""
COLUMNS = ("model", "two, all weights in each (DDP)", "twice the same bytes", "two, weights divided (FSDP2)")


def main(report: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        started = ranked_trainings.start(Path(scratch, "started"), make_base(Path(scratch)))
        whole, divisible = MODELS, [model for model in MODELS if model not in INDIVISIBLE]
        one, two, again = (_trained(started, number, "none", whole) for number in (1, 2, 2))
        parts = _trained(started, 2, "full", divisible)
        lines = [f"| {' | '.join(COLUMNS)} |", "|" + len(COLUMNS) * "---|"]
        for model in MODELS:
            alone, same = losses(one, model), _digest(two, model) == _digest(again, model)
            divided = f"{_apart(alone, losses(parts, model)):.1e}" if model in divisible else "refused"
            apart = f"{_apart(alone, losses(two, model)):.1e}"
            lines.append(f"| {model.split('/')[1]} | {apart} | {'yes' if same else '**no**'} | {divided} |")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    measured = f"{cpus.usable_cpus()} CPUs (load {load})"
    report.write_text(HEADING.format(measured=measured) + "\n".join(lines) + "\n")
    print(report.read_text())


def _trained(started: Path, processes: int, sharding: str, models: list[str]) -> Path:
    """A copy of the project whose models have been trained."""
    folder = Path(shutil.copytree(started, tempfile.mkdtemp(dir=started.parent) + "/project"))
    done = ranked_trainings.train(folder, processes, *models, sharding=sharding)
    if done.returncode:
        sys.exit(done.stdout)
    return folder


def _digest(folder: Path, model: str) -> str:
    return manifest.verify(folder / "models" / model.split("/")[1]).weights_digest


def _apart(one: list[float], other: list[float]) -> float:
    return max(abs(first - second) for first, second in zip(one, other, strict=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
