"""Whether a model learns to look at pictures: accuracy on held-out ones, and on those that stand beside other answers.

    python -m benchmarks.images [--folder FOLDER] [--text FOLDER]

Needs a text model (models/base, which `dvc repro fetch_base` brings). FOLDER becomes the project of examples/images,
from files of pictures to the comparison, by `dvc repro`. Takes about a quarter of an hour on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "images"
PROGRAMS = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
PLACE = "<what compose.py printed>"
CHANCE = 1 / 30
"""The share of right answers that guessing gives: two different colours of six, in order."""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def make(folder: Path, text: Path) -> None:
    """Write the project as the README of the example does."""
    run("git", "init", "-q", cwd=folder)
    (folder / "data").mkdir()
    (folder / "data/demo_chat.jsonl").write_bytes((ROOT / "data/demo_chat.jsonl").read_bytes())
    init = ["--data", "data/demo_chat.jsonl", "--base", str(text), "--weights", "lora", "--no-suites"]
    run(PROGRAMS / "tunesmith", "init", *init, cwd=folder)
    run(sys.executable, EXAMPLE / "shapes.py", "data/raw/shapes", cwd=folder)
    others = ["--rows", "128", "--seed", "21", "--shuffled"]
    run(sys.executable, EXAMPLE / "shapes.py", "data/raw/exchanged", *others, cwd=folder)
    sha256 = run(sys.executable, EXAMPLE / "compose.py", text, "build/base", cwd=folder).split()[-1]
    (folder / "params.yaml").write_text((EXAMPLE / "params.yaml").read_text().replace(PLACE, sha256))


def table(comparison: dict[str, Any]) -> str:
    """The scores of both models, and what the training took. comparison: reports/comparison.json."""
    lines = ["| suite | base | tuned | difference, 95% interval, points |", "|---|--:|--:|--:|"]
    for name, suite in comparison["suites"].items():
        base, tuned = (suite["models"][model]["score"] for model in ("base", "shapes-lora"))
        lead = suite["against_baseline"]["shapes-lora"]
        interval = f"{100 * lead['difference']:+.1f} [{100 * lead['low']:+.1f}, {100 * lead['high']:+.1f}]"
        lines.append(f"| {name} | {100 * base:.1f}% | {100 * tuned:.1f}% | {interval} |")
    training = comparison["models"]["shapes-lora"]["training"]
    minutes, load = training["seconds"] / 60, os.getloadavg()[2]
    return "\n".join(
        [*lines, "", f"chance: {100 * CHANCE:.1f}%; training: {minutes:.1f} minutes; load of 15 minutes: {load:.1f}"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the project goes and stays; a temporary folder by default")
    parser.add_argument("--text", type=Path, default=ROOT / "models/base", help="the text model's folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, options.text.resolve())
        subprocess.run([PROGRAMS / "dvc", "repro", "compare"], cwd=folder, check=True, env=ENVIRONMENT)
        print(table(json.loads((folder / "reports/comparison.json").read_text())))


if __name__ == "__main__":
    main()
