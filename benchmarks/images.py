"""Whether a model learns to look at pictures: accuracy on held-out ones, and where pictures are exchanged among rows.

    python -m benchmarks.images [--folder FOLDER] [--text FOLDER] [--only pictures]

Needs a text model (models/base, which `dvc repro fetch_base` brings). Each of two projects in FOLDER is that of
examples/images, from files of pictures to the comparison, by `dvc repro`; in the second, the picture of each row is
that of another one. Takes about half an hour on two cores.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "images"
PROGRAMS = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
PLACE = re.compile(r"<what compose.py printed>")
CHANCE = 1 / 30
"""The share of right answers that guessing gives: two different colours of six, in order."""
KINDS = {"pictures": [], "exchanged": ["--shuffled"]}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def make(folder: Path, base: Path, sha256: str, *options: str) -> None:
    """Write a project as the README of the example does."""
    folder.mkdir(parents=True)
    run("git", "init", "-q", cwd=folder)
    (folder / "data").mkdir()
    (folder / "data/demo_chat.jsonl").write_bytes((ROOT / "data/demo_chat.jsonl").read_bytes())
    init = ["--data", "data/demo_chat.jsonl", "--base", str(base), "--weights", "lora", "--no-suites"]
    run(PROGRAMS / "tunesmith", "init", *init, cwd=folder)
    run(sys.executable, EXAMPLE / "shapes.py", "data/raw/shapes", *options, cwd=folder)
    params = PLACE.sub(sha256, (EXAMPLE / "params.yaml").read_text())
    (folder / "params.yaml").write_text(params.replace("build/base", str(base)))


def measured(folder: Path) -> dict[str, Any]:
    """The comparison of a project, once all its stages but the registration have run."""
    subprocess.run([PROGRAMS / "dvc", "repro", "compare"], cwd=folder, check=True, env=ENVIRONMENT)
    comparison: dict[str, Any] = json.loads((folder / "reports/comparison.json").read_text())
    return comparison


def row(kind: str, comparison: dict[str, Any]) -> str:
    """A line of the table."""
    tuned, base = comparison["models"]["shapes-lora"], comparison["models"]["base"]
    lead, chat = comparison["against_baseline"]["shapes-lora"], comparison["suites"]["chat"]["models"]
    points = f"{100 * lead['low']:+.1f} to {100 * lead['high']:+.1f}"
    texts = f"{chat['base']['score']:.3f}, {chat['shapes-lora']['score']:.3f}"
    minutes = tuned["training"]["seconds"] / 60
    scores = f"{100 * base['score']:.1f}% | {100 * tuned['score']:.1f}%"
    return f"| {kind} | {scores} | {points} | {texts} | {minutes:.1f} min |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the projects go and stay; a temporary folder by default")
    parser.add_argument("--text", type=Path, default=ROOT / "models/base", help="the text model's folder")
    parser.add_argument("--only", choices=KINDS, help="one of the two projects")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        base = folder / "base"
        sha256 = run(sys.executable, EXAMPLE / "compose.py", options.text.resolve(), base, cwd=ROOT).split()[-1]
        head = "| rows | base | tuned | lead, 95% interval, points | texts: base, tuned | training |"
        lines = [head, "|---|--:|--:|--:|--:|--:|"]
        for kind, more in KINDS.items():
            if options.only in (None, kind):
                make(folder / kind, base, sha256, *more)
                lines.append(row(kind, measured(folder / kind)))
                print(lines[-1], flush=True)
    print("\n".join([*lines, "", f"chance: {100 * CHANCE:.1f}%"]))


if __name__ == "__main__":
    main()
