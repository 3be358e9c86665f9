"""What one GPU makes of the product, in at most eight minutes and without network.

    python -m benchmarks.gpu wheels FOLDER [--python 3.12] [--cuda 130] [--there pip-list.txt] [--megabytes 60]
    python -m benchmarks.gpu [--minutes 8] [--out results.jsonl] [--report results.md] [--only PART ...]
    python -m benchmarks.gpu --anywhere
    python -m benchmarks.gpu report results.jsonl

The first, where there is a network, collects the wheels that the machine lacks: `pip list --format=freeze` there says
what it has. Its own torch, transformers, peft, accelerate and triton are used as they are, in versions near the
lock's. Then there, in the checkout:

    pip install --no-index --no-deps --find-links wheels --target site-packages wheels/*.whl
    PYTHONPATH=site-packages python -m benchmarks.gpu --out results.jsonl --report results.md

That folder needs its name: dill, with which `datasets` pickles, knows installed modules by it.

Parts run in order of worth (`parts`): first whether paths are right and every objective trains, is evaluated and
resumes; then speed and memory of large random models, each beside what `tunesmith plan` predicts. A part that time, a
missing library or the card's memory does not allow is skipped, and the results say why. Every result is on the disk
before the next part begins. `--anywhere` runs the same with tiny shapes on whatever there is, to see that it runs.

MFU is by the conventions of `flops`. Tokens are those of the rows, without padding; the first two steps of a training
are left out, and rates are medians over the others.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.gpu import report, wheels, worker
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import Result, Runner, appender

ANYWHERE_MINUTES = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", nargs="?", choices=["run", "wheels", "report", "work"], default="run")
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--report", type=Path)
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[part.name for part in PARTS])
    parser.add_argument("--anywhere", action="store_true", help="tiny shapes, on whatever there is")
    parser.add_argument("--commit", help="of the checkout, where it has no git")
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--cuda", default="130")
    parser.add_argument("--there", type=Path)
    parser.add_argument("--megabytes", type=float, default=60)
    options = parser.parse_args()
    if options.do in ("wheels", "report") and options.path is None:
        parser.error(f"{options.do} takes a path")
    match options.do:
        case "work":
            worker.main()
        case "wheels":
            target = {"python": options.python, "cuda": options.cuda, "there": options.there}
            print(wheels.collect(options.path, **target, megabytes=options.megabytes))
        case "report":
            print(report.markdown([json.loads(line) for line in options.path.read_text().splitlines()]), end="")
        case "run":
            run(options)


def run(options: argparse.Namespace) -> None:
    """Run the parts; results go to a file, a page and, in a line each, to the terminal."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if options.out.exists():
        sys.exit(f"{options.out} exists: name another with --out, or move it away")
    results: list[Result] = []
    append = appender(options.out)

    def write(result: Result) -> None:
        if "run" in result and options.commit:
            result["run"]["commit"] = options.commit
        append(result)
        results.append(result)
        try:
            print(line(result), flush=True)
            if options.report:
                unfinished = options.report.with_suffix(".unfinished")
                unfinished.write_text(report.markdown(results))
                unfinished.replace(options.report)
        except (LookupError, TypeError, ValueError) as error:  # a card's time is dearer than its page
            print(f"the result is in {options.out}, but cannot be shown: {error!r}", flush=True)

    minutes = options.minutes or (ANYWHERE_MINUTES if options.anywhere else 8)
    runner = Runner(write, options.out.with_suffix(".log"), minutes=minutes, tiny=options.anywhere)
    runner.run([part for part in PARTS if not options.only or part.name in options.only])


def line(result: Result) -> str:
    """A result in a line for the terminal."""
    if "run" in result:
        return f"{result['run']['card']}, commit {result['run']['commit']}"
    if reason := result.get("skipped") or result.get("failed"):
        return f"{result['part']:30} {'skipped' if 'skipped' in result else 'FAILED'}: {reason}"
    took = f"{result['part']:30} {result['seconds']:6.1f} s"
    if "ok" in result:
        return f"{took}  {'ok' if result['ok'] else 'NOT OK'}"
    return f"{took}  {result['tokens_per_second']:9,.0f} tokens/s, {result['peak_bytes'] / 1e9:6.2f} GB"


if __name__ == "__main__":
    main()
