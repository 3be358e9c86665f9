"""Kill the whole pipeline at random moments, start it again each time, and show the digests that it ends with.

    python -m benchmarks.kill_pipeline --kills 5 --minutes 40 [--expected PROJECT] [TARGET...]

runs `dvc repro` in the present folder, a project; kills all its processes with SIGKILL at moments that are spread over
the given time; and prints the weights' digest of each model, beside that of an undisturbed run in the folder PROJECT.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tunesmith.cli.doctor.project import LOCKS, _readable
from tunesmith.core import manifest


def main(kills: int, minutes: float, expected: Path | None, targets: list[str], seed: int) -> bool:
    generator = random.Random(seed)
    part = 60 * minutes / max(kills, 1)
    for number in range(kills):
        process = subprocess.Popen(["dvc", "repro", *targets], start_new_session=True)
        wait = generator.uniform(0.2, 1) * part
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        left = ", ".join(str(path) for path in Path("build/checkpoints").glob("*/*/*/step-*"))
        print(f"\n== kill {number + 1} after {wait:.0f} s; checkpoints: {left or 'none'}", flush=True)
        time.sleep(2)
        if not _readable(LOCKS):
            print(f"== {LOCKS} is cut off, and removed as `tunesmith doctor` says", flush=True)
            LOCKS.unlink()
    subprocess.run(["dvc", "repro", *targets], check=True)
    same = True
    for folder in sorted(path for path in Path("models").iterdir() if (path / manifest.NAME).exists()):
        digest = manifest.verify(folder).weights_digest
        if expected is None:
            print(f"{folder.name}: {digest}")
            continue
        other = manifest.verify(expected / folder).weights_digest
        same &= digest == other
        print(f"{folder.name}: {digest} {'is the same' if digest == other else f'differs from {other}'}")
    return same


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--expected", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    sys.exit(not main(options.kills, options.minutes, options.expected, options.targets, options.seed))
