"""What choosing on the validation split costs and saves: every model of a sweep on the test split, out of band.

    python -m benchmarks.sweep_selection SWEEP [--out benchmarks/results/sweep-cpu.md]

Needs a finished sweep of `tunesmith sweep` in this project, whose suites' data sets are ready. Each finished trial is
brought from DVC's cache into a work tree of its experiment, and evaluated there on the first suites of params.yaml: the
project itself, its params and its reports see none of it. The page compares the trial that was chosen with the one
whose score on the first suite is the highest, which nobody could have chosen without looking at the test split.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scipy import stats

from tunesmith.core import dvc_project, layout, ready_rows, statistics
from tunesmith.core.ready_rows import Sample
from tunesmith.registry.provenance import worktree
from tunesmith.reports.sweep_page import SweepReport, SweepTrial, number
from tunesmith.sweeps import space, store


def evaluate(root: Path, trial: SweepTrial, model: str) -> list[Sample]:
    """The samples of a trial's model on all suites, from a work tree of its experiment."""
    command = ["git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{trial['name']}"]
    commit = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()
    with (
        tempfile.TemporaryDirectory() as scratch,
        worktree.checked_out(root, commit, into=Path(scratch) / "tree", keep=False) as tree,
    ):
        known = dvc_project.stages(root)
        made = {out for stage in known for out in stage.outs}
        for name in ("data/ready", "build/code", "build/params", "models/base", f"models/{model}"):
            below = [str(out) for out in made if out == Path(name) or Path(name) in out.parents]
            locked = [out for out in below if f"path: {out}\n" in (tree.project / "dvc.lock").read_text()]
            tree.run("dvc", "checkout", "--quiet", *locked)
        tree.run("stages.evaluate", model)
        return ready_rows.read_samples(tree.project / layout.EVALUATION / model / "samples.jsonl")


def scores(samples: list[Sample]) -> list[float]:
    """The scores on the first suite."""
    return [float(sample["score"]) for sample in samples if sample["suite"] == samples[0]["suite"]]


def page(report: SweepReport, samples: dict[str, list[Sample]]) -> str:
    """The results as Markdown. samples: of each finished trial, by name."""
    trials = {trial["name"]: trial for trial in report["trials"]}
    test = {name: scores(answers) for name, answers in samples.items()}
    mean = {name: sum(values) / len(values) for name, values in test.items()}
    chosen, best = str(report["chosen"]), max(mean, key=lambda name: mean[name])
    other = max((name for name in mean if name != chosen), key=lambda name: mean[name])
    suite = next(iter(samples.values()))[0]["suite"]
    lines = [
        f"| trial | {' | '.join(report['space'])} | validation {report['by']} | test, {suite} |",
        f"|---|{'--:|' * (len(report['space']) + 2)}",
    ]
    for trial in sorted(report["trials"], key=lambda one: (one["state"] != "finished", one["name"])):
        values = " | ".join(space.shown(trial["values"][param]) for param in report["space"])
        name = f"**{trial['name']}**" if trial["name"] == chosen else trial["name"]
        measured = f"{100 * mean[trial['name']]:.1f}%" if trial["name"] in mean else trial["state"]
        lines.append(f"| {name} | {values} | {number(trial['value'])} | {measured} |")
    sign = -1 if report["lower_is_better"] else 1
    ranks = stats.spearmanr([sign * (trials[name]["value"] or 0) for name in mean], [*mean.values()]).statistic
    text = [
        *lines,
        "",
        f"Chosen on {report['rows']} validation rows: {chosen}, {100 * mean[chosen]:.1f}% on {len(test[chosen])} test "
        f"prompts. Best on test: {best}, {100 * mean[best]:.1f}%; of those not chosen {other}, "
        f"{100 * mean[other]:.1f}%.",
    ]
    if best != chosen:
        result: Any = statistics.paired(test[chosen], test[best], confidence=0.95, resamples=10_000, seed=0)
        low, high = 100 * result.interval.low, 100 * result.interval.high
        text.append(
            f"The paired difference is {100 * result.difference:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}, "
            f"on the test split that also chose the best: uncorrected for the {len(mean)} that were compared."
        )
    text.append(f"Rank correlation of validation and test over {len(mean)} finished trials: {ranks:.2f}.")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report: SweepReport = json.loads((store.REPORTS / f"{arguments.sweep}.json").read_text())
    model = report["training"].partition(".")[2]
    finished = [trial for trial in report["trials"] if trial["state"] == "finished"]
    samples = {trial["name"]: evaluate(Path.cwd().resolve(), trial, model) for trial in finished}
    text = page(report, samples)
    if arguments.out:
        arguments.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
